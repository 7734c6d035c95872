-- Paging through the events of a thread.

-- name: history_after
-- The next events of a thread, oldest first: by the time when each was first appended, then by namespace and number.
-- The key of `events` gives each stream's next events, so a page costs as much as it returns, however long the thread
-- is. `ns` has the streams that were already read from, with the number to continue after; the other streams continue
-- after the place (`time`, `after_ns`, `after_seq`).
select
    p.seq, p.base_seq, p.recorded_at, p.body, p.kind, p.checkpoint_id, p.checkpoint_ns, p.thread_id, p.position,
    p.digest, p.as_of, p.first_at
from (
    select
        o.*, pg_catalog.row_number() over w as number, pg_catalog.sum(pg_catalog.octet_length(o.body)) over w as bytes
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
order by p.saved_at, p.checkpoint_ns, p.seq;

-- name: history_before
-- Like history_after, newest first. Events appended after the reading began, perhaps to a new namespace, are later than
-- the place and not part of the answer.
select
    p.seq, p.base_seq, p.recorded_at, p.body, p.kind, p.checkpoint_id, p.checkpoint_ns, p.thread_id, p.position,
    p.digest, p.as_of, p.first_at
from (
    select
        o.*, pg_catalog.row_number() over w as number, pg_catalog.sum(pg_catalog.octet_length(o.body)) over w as bytes
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
order by p.saved_at desc, p.checkpoint_ns desc, p.seq desc;

-- name: history_children
-- Checkpoints that share their parent, or that like others have none; all checkpoints with `everyone`.
select o.checkpoint_ns, o.parent_checkpoint_id, o.first_at, o.seq, o.checkpoint_id
from (
    select
        c.checkpoint_ns, c.parent_checkpoint_id, c.checkpoint_id, c.first_at, c.seq,
        pg_catalog.count(*) over (partition by c.checkpoint_ns, c.parent_checkpoint_id) as children
    from {schema}.checkpoints as c
    where c.thread_id = %(thread_id)s
) as o
where o.children > 1 or %(everyone)s;

-- name: history_earlier_writes
-- The writes to some checkpoints before a number of their stream, without bodies.
select e.checkpoint_ns, e.checkpoint_id, e.seq, pg_catalog.octet_length(e.body) as bytes
from unnest(%(ns)s::text[], %(ids)s::text[], %(seqs)s::bigint[]) as w (ns, id, seq)
inner join {schema}.streams as s on s.thread_id = %(thread_id)s and w.ns = s.checkpoint_ns
inner join {schema}.events as e
    on
        s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns and w.id = e.checkpoint_id and e.seq < w.seq
        and e.kind = 2 and e.recorded_at >= coalesce(s.begins_at, '-infinity')
order by e.checkpoint_ns, e.seq;

-- name: history_repeats
-- The checkpoints of a thread that were put more than once, each with the number of its first event.
select e.checkpoint_ns, e.checkpoint_id, pg_catalog.min(e.seq) as first_seq
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where e.thread_id = %s and e.kind = 1 and e.recorded_at >= coalesce(s.begins_at, '-infinity')
group by e.checkpoint_ns, e.checkpoint_id
having pg_catalog.count(*) > 1;

-- name: history_streams
-- The last number and the epoch of each stream of a thread.
select s.checkpoint_ns, s.seq, s.epoch
from {schema}.streams as s
where s.thread_id = %s;
