-- The next events of a thread, oldest first: by the time when each was appended first, then by namespace and number.
-- Of each stream the next ones come from its key, so that a page costs what is on it, however long the thread is.
-- Streams of which something was read already are in `ns`, with the number to go on behind; in the others, what
-- follows the place (`time`, `after_ns`, `after_seq`).
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
                    and e.seq > coalesce(h.seq, 0)
                    and e.recorded_at >= coalesce(greatest(s.begins_at, %(time)s::timestamptz), '-infinity')
                    and (%(kinds)s::smallint[] is null or e.kind = any(%(kinds)s::smallint[]))
                    and (
                        h.seq is not null
                        or %(time)s::timestamptz is null
                        or (
                            case when e.kind in (1, 2) then coalesce(e.as_of, e.recorded_at) else e.recorded_at end,
                            e.checkpoint_ns, e.seq
                        ) > (%(time)s::timestamptz, %(after_ns)s, %(after_seq)s)
                    )
                order by e.seq
                limit %(rows)s
            ) as n
        where
            s.thread_id = %(thread_id)s
            and s.seq > coalesce(h.seq, 0)
            and (%(only_ns)s::text is null or s.checkpoint_ns = %(only_ns)s::text)
        order by n.saved_at, n.checkpoint_ns, n.seq
        limit %(rows)s
    ) as o
    window w as (order by o.saved_at, o.checkpoint_ns, o.seq)
) as p
where p.number = 1 or p.bytes <= %(bytes)s
order by p.saved_at, p.checkpoint_ns, p.seq
