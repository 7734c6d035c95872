-- Data for the viewers that no other query reads.

-- name: viewing_checkpoints
-- The latest checkpoints of a stream, latest first: their parents, and when they were first saved. Ids grow with time,
-- so the key gives the rows in order, however many the stream has.
select
    c.checkpoint_id, c.parent_checkpoint_id, c.first_at, c.seq, c.metadata -> 'step'::text as step,
    c.metadata ->> 'source'::text as source
from {schema}.checkpoints as c
where c.thread_id = %(thread_id)s and c.checkpoint_ns = %(checkpoint_ns)s
order by c.checkpoint_id desc
limit %(rows)s;

-- name: viewing_neighbours
-- The parent and the children of a checkpoint, as far as they exist.
select c.checkpoint_id, c.checkpoint_id = %(parent_id)s::text as is_parent
from {schema}.checkpoints as c
where
    c.thread_id = %(thread_id)s and c.checkpoint_ns = %(checkpoint_ns)s
    and (c.parent_checkpoint_id = %(checkpoint_id)s or c.checkpoint_id = %(parent_id)s::text)
order by c.first_at, c.seq
limit %(rows)s;

-- name: viewing_deleted_threads
-- Threads of which only records are left, the latest first.
select s.thread_id, pg_catalog.max(s.updated_at) as updated_at
from {schema}.streams as s
where pg_catalog.starts_with(s.thread_id, %(prefix)s)
group by s.thread_id
having
    pg_catalog.bool_and(s.latest_checkpoint_id is null and s.written_through is null)
    and (
        %(before)s::timestamptz is null
        or pg_catalog.max(s.updated_at) < %(before)s::timestamptz
        or (pg_catalog.max(s.updated_at) = %(before)s::timestamptz and s.thread_id > %(before_id)s)
    )
order by pg_catalog.max(s.updated_at) desc, s.thread_id
limit %(rows)s;

-- name: viewing_span
-- When the first remaining event of a stream was saved, and the last.
select
    pg_catalog.min(coalesce(e.as_of, e.recorded_at)) as first_at,
    pg_catalog.max(coalesce(e.as_of, e.recorded_at)) as last_at
from {schema}.events as e
where e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s and e.kind in (1, 2);

-- name: viewing_sealed
-- The last numbers of a thread's streams, and the latest seal that has each: its number, and the event that it covers.
select s.checkpoint_ns, s.seq, d.seal, d.seq as through
from {schema}.streams as s
left join
    lateral (
        select d.seal, d.seq
        from {schema}.sealed as d
        where d.stream = s.name and d.ended_at is null
        order by d.seal desc
        limit 1
    ) as d
    on true
where s.thread_id = %(thread_id)s
order by s.checkpoint_ns
limit %(rows)s;

-- name: viewing_heads
-- The sum of numbers and epochs of threads' streams: every append or erasure raises it.
select s.thread_id, pg_catalog.sum(s.seq)::bigint as seq, pg_catalog.sum(s.epoch)::bigint as epoch
from {schema}.streams as s
where s.thread_id = any(%s)
group by s.thread_id;

-- name: viewing_writes
-- The writes events of some checkpoints of a stream, oldest first: at least one, up to so many bytes of bodies; and how
-- many there are, as far as they were counted. Writes may be up to a day older than their checkpoint.
select
    p.seq, p.base_seq, p.recorded_at, p.body, p.kind, p.checkpoint_id, p.checkpoint_ns, p.thread_id, p.position,
    p.digest, p.as_of, p.first_at, p.found
from (
    select
        o.*, pg_catalog.count(*) over () as found, pg_catalog.row_number() over w as number,
        pg_catalog.sum(pg_catalog.octet_length(o.body)) over w as bytes
    from (
        select
            e.seq, e.base_seq, e.recorded_at, e.body, e.kind, e.checkpoint_id, e.checkpoint_ns, e.thread_id,
            e.position, e.digest, e.as_of, e.first_at
        from {schema}.streams as s
        inner join {schema}.events as e on s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns
        where
            s.thread_id = %(thread_id)s and s.checkpoint_ns = %(checkpoint_ns)s
            and e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s
            and e.kind = 2 and e.checkpoint_id = any(%(ids)s)
            and e.recorded_at >= greatest(s.begins_at, %(since)s::timestamptz - '1 day'::interval)
        order by e.seq
        limit %(rows)s
    ) as o
    window w as (order by o.seq)
) as p
where p.number = 1 or p.bytes <= %(bytes)s
order by p.seq;
