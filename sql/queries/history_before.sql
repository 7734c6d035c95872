-- As history_after, newest first. What is appended meanwhile, to a namespace that is new perhaps, is later than the
-- place, and no part of what was asked for.
select
    p.seq, p.base_seq, p.recorded_at, p.body, p.kind, p.checkpoint_id, p.checkpoint_ns, p.thread_id, p.position,
    p.digest, p.as_of, p.first_at
from (
    select o.*, row_number() over w as number, sum(octet_length(o.body)) over w as bytes
    from (
        select n.*
        from {schema}.streams as s
        left join unnest(%(ns)s::text[], %(seqs)s::bigint[]) as h (ns, seq) on s.checkpoint_ns = h.ns
        cross join
            lateral (
                select
                    e.seq, e.base_seq, e.recorded_at, e.body, e.kind, e.checkpoint_id, e.checkpoint_ns, e.thread_id,
                    e.position, e.digest, e.as_of, e.first_at,
                    case when e.kind in (1, 2) then coalesce(e.as_of, e.recorded_at) else e.recorded_at end as saved_at
                from {schema}.events as e
                where
                    e.thread_id = s.thread_id
                    and e.checkpoint_ns = s.checkpoint_ns
                    and e.seq < coalesce(h.seq, s.seq + 1)
                    and e.recorded_at >= coalesce(s.begins_at, '-infinity')
                    and (%(kinds)s::smallint[] is null or e.kind = any(%(kinds)s::smallint[]))
                    and (
                        %(time)s::timestamptz is null
                        or (
                            case when e.kind in (1, 2) then coalesce(e.as_of, e.recorded_at) else e.recorded_at end,
                            e.checkpoint_ns, e.seq
                        ) < (%(time)s::timestamptz, %(after_ns)s, %(after_seq)s)
                    )
                order by e.seq desc
                limit %(rows)s
            ) as n
        where
            s.thread_id = %(thread_id)s
            and (h.seq is null or h.seq > 1)
            and (%(only_ns)s::text is null or s.checkpoint_ns = %(only_ns)s::text)
        order by n.saved_at desc, n.checkpoint_ns desc, n.seq desc
        limit %(rows)s
    ) as o
    window w as (order by o.saved_at desc, o.checkpoint_ns desc, o.seq desc)
) as p
where p.number = 1 or p.bytes <= %(bytes)s
order by p.saved_at desc, p.checkpoint_ns desc, p.seq desc
