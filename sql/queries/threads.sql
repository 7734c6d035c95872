-- Listing threads.

-- name: latest_threads
-- A page of threads, the most recently active first.
select s.thread_id
from {schema}.streams as s
where s.latest_checkpoint_id is not null or s.written_through is not null
group by s.thread_id
having
    %(before)s::timestamptz is null
    or pg_catalog.max(s.active_at) < %(before)s::timestamptz
    or (pg_catalog.max(s.active_at) = %(before)s::timestamptz and s.thread_id > %(before_id)s)
order by pg_catalog.max(s.active_at) desc, s.thread_id
limit %(rows)s;

-- name: threads_before
-- Records of what was done to a deleted stream go with their partitions.
select
    d.thread_id,
    exists(
        select 1
        from {schema}.streams as s
        where
            s.thread_id = d.thread_id
            and (s.begins_at is null or s.begins_at < %(before)s)
            and (s.latest_checkpoint_id is not null or s.written_through is not null)
    ) as is_pending
from (
    select distinct e.thread_id
    from {schema}.events as e
    where e.recorded_at < %(before)s and e.thread_id > %(after)s
    order by e.thread_id
    limit %(rows)s
) as d
order by d.thread_id;

-- name: summarize_threads
-- Counts, sizes and times of threads.
select t.thread_id, t.active_at, t.namespaces, c.checkpoints, e.events, e.bytes + n.bytes as bytes
from (
    select
        s.thread_id, pg_catalog.max(s.active_at) as active_at,
        pg_catalog.count(*) filter (
            where s.latest_checkpoint_id is not null or s.written_through is not null
        ) as namespaces
    from {schema}.streams as s
    where s.thread_id = any(%s)
    group by s.thread_id
) as t
cross join
    lateral (
        select pg_catalog.count(*) as checkpoints
        from {schema}.checkpoints as c
        where c.thread_id = t.thread_id
    ) as c
cross join
    lateral (
        select coalesce(pg_catalog.sum(pg_catalog.octet_length(n.body)), 0)::bigint as bytes
        from {schema}.snapshots as n
        where n.thread_id = t.thread_id
    ) as n
cross join lateral (
    select pg_catalog.count(*) as events, coalesce(pg_catalog.sum(pg_catalog.octet_length(e.body)), 0)::bigint as bytes
    from {schema}.events as e
    inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
    where e.thread_id = t.thread_id and e.kind in (1, 2) and e.recorded_at >= coalesce(s.begins_at, '-infinity')
) as e;

-- name: idle_threads
-- The threads to which nothing was appended since a time, longest idle first.
select s.thread_id
from {schema}.streams as s
where s.thread_id > %(after)s and (s.latest_checkpoint_id is not null or s.written_through is not null)
group by s.thread_id
having pg_catalog.max(s.active_at) < %(since)s
order by s.thread_id
limit %(rows)s;

-- name: threads_of_runs
-- The threads that have checkpoints of these runs.
select distinct c.thread_id
from {schema}.checkpoints as c
where c.run_id = any(%s)
order by c.thread_id;
