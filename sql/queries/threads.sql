-- Listing threads.

-- name: threads_by_activity
-- A page of threads, the most recently active first. The query visits threads in this order and stops when the page is
-- full: `limit 1` keeps the metadata check a lookup for each thread.
select t.thread_id
from (
    select s.thread_id, pg_catalog.max(s.active_at) as active_at
    from {schema}.streams as s
    where s.latest_checkpoint_id is not null or s.written_through is not null
    group by s.thread_id
    having
        (
            %(before)s::timestamptz is null
            or pg_catalog.max(s.active_at) < %(before)s::timestamptz
            or (pg_catalog.max(s.active_at) = %(before)s::timestamptz and s.thread_id > %(before_id)s)
        )
        and (%(since)s::timestamptz is null or pg_catalog.max(s.active_at) >= %(since)s::timestamptz)
    order by pg_catalog.max(s.active_at) desc, s.thread_id asc
) as t
where
    %(filter)s::jsonb is null
    or coalesce(
        (
            select true
            from {schema}.checkpoints as c
            where c.thread_id = t.thread_id and c.metadata @> %(filter)s::jsonb
            limit 1 -- noqa: AM09
        ),
        false
    )
order by t.active_at desc, t.thread_id asc
limit %(rows)s;

-- name: threads_by_id
-- A page of threads in the order of their ids.
select t.thread_id
from (
    select s.thread_id
    from {schema}.streams as s
    where s.thread_id > %(after)s and (s.latest_checkpoint_id is not null or s.written_through is not null)
    group by s.thread_id
    having %(since)s::timestamptz is null or pg_catalog.max(s.active_at) >= %(since)s::timestamptz
    order by s.thread_id
) as t
where
    %(filter)s::jsonb is null
    or coalesce(
        (
            select true
            from {schema}.checkpoints as c
            where c.thread_id = t.thread_id and c.metadata @> %(filter)s::jsonb
            limit 1 -- noqa: AM09
        ),
        false
    )
order by t.thread_id
limit %(rows)s;

-- name: threads_by_measure
-- A page of threads, those with the most bytes or the most events first. Reads the events of all matching threads,
-- without their bodies.
with matching as materialized (
    select t.thread_id
    from (
        select s.thread_id
        from {schema}.streams as s
        where s.latest_checkpoint_id is not null or s.written_through is not null
        group by s.thread_id
        having %(since)s::timestamptz is null or pg_catalog.max(s.active_at) >= %(since)s::timestamptz
    ) as t
    where
        %(filter)s::jsonb is null
        or coalesce(
            (
                select true
                from {schema}.checkpoints as c
                where c.thread_id = t.thread_id and c.metadata @> %(filter)s::jsonb
                limit 1 -- noqa: AM09
            ),
            false
        )
),

parts as (
    select m.thread_id, 0::bigint as measure
    from matching as m
    union all
    select
        e.thread_id,
        case
            when %(by_size)s::boolean then coalesce(pg_catalog.sum(pg_catalog.octet_length(e.body)), 0)::bigint
            else pg_catalog.count(*)
        end as measure
    from matching as m
    inner join {schema}.streams as s on m.thread_id = s.thread_id
    inner join {schema}.events as e on s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns
    where e.kind in (1, 2) and e.recorded_at >= coalesce(s.begins_at, '-infinity')
    group by e.thread_id
    union all
    select n.thread_id, coalesce(pg_catalog.sum(pg_catalog.octet_length(n.body)), 0)::bigint as measure
    from matching as m
    inner join {schema}.snapshots as n on m.thread_id = n.thread_id
    where %(by_size)s::boolean
    group by n.thread_id
),

measured as (
    select p.thread_id, pg_catalog.sum(p.measure)::bigint as measure
    from parts as p
    group by p.thread_id
)

select m.thread_id
from measured as m
where
    %(before)s::bigint is null
    or m.measure < %(before)s::bigint
    or (m.measure = %(before)s::bigint and m.thread_id > %(before_id)s)
order by m.measure desc, m.thread_id asc
limit %(rows)s;

-- name: threads_that_match
-- Which of some threads have a checkpoint with such metadata.
select t.thread_id
from {schema}.checkpoints as t
where t.thread_id = any(%s) and t.metadata @> %s::jsonb
group by t.thread_id;

-- name: stream_ends
-- The latest checkpoint of each thread's root graph (or, if the root graph has none, of all its namespaces), and each
-- writes event of it. Writes may be a day older than their checkpoint.
select
    s.thread_id, s.checkpoint_ns, s.latest_checkpoint_id, w.seq, w.recorded_at, w.body_bytes,
    c.metadata -> 'step'::text as step,
    s.latest_checkpoint_id is not null or s.written_through is not null as has_data
from {schema}.streams as s
left join {schema}.checkpoints as c
    on
        s.thread_id = c.thread_id and s.checkpoint_ns = c.checkpoint_ns
        and s.latest_checkpoint_id = c.checkpoint_id
left join lateral (
    select e.seq, e.recorded_at, pg_catalog.octet_length(e.body) as body_bytes
    from {schema}.events as e
    where
        s.written_through >= c.checkpoint_id
        and e.thread_id = s.thread_id
        and e.checkpoint_ns = s.checkpoint_ns
        and e.checkpoint_id = c.checkpoint_id
        and e.kind = 2
        and e.recorded_at >= greatest(s.begins_at, c.first_at - interval '1 day')
        and e.recorded_at <= s.updated_at
    offset 0 -- noqa: AM09
) as w on true
where
    s.thread_id = any(%(threads)s::text[])
    and (
        s.checkpoint_ns = ''
        or not exists (
            select 1
            from {schema}.streams as r
            where r.thread_id = s.thread_id and r.checkpoint_ns = '' and r.latest_checkpoint_id is not null
        )
    )
order by s.thread_id, s.checkpoint_ns, w.seq;

-- name: read_bodies
-- The bodies of events of many streams, each with its place in the request.
select r.number, e.body
from
    unnest(%s::text[], %s::text[], %s::bigint[], %s::timestamptz[]) with ordinality
        as r (thread_id, checkpoint_ns, seq, recorded_at, number)
cross join
    lateral (
        select e.body
        from {schema}.events as e
        where
            e.thread_id = r.thread_id and e.checkpoint_ns = r.checkpoint_ns and e.seq = r.seq
            and e.recorded_at = r.recorded_at
        order by e.seq
    ) as e
order by r.number;

-- name: threads_before
-- The next threads with events before a time, and whether retention has yet to deal with them. A deleted stream needs
-- nothing: its records are dropped with their partitions.
with page as materialized (
    select distinct e.thread_id
    from {schema}.events as e
    where e.recorded_at < %(before)s and e.thread_id > %(after)s
    order by e.thread_id
    limit %(rows)s
),

pending as materialized (
    select s.thread_id
    from page as p
    inner join {schema}.streams as s on p.thread_id = s.thread_id
    where
        (s.begins_at is null or s.begins_at < %(before)s)
        and (s.latest_checkpoint_id is not null or s.written_through is not null)
    group by s.thread_id
)

select p.thread_id, d.thread_id is not null as is_pending
from page as p
left join pending as d on p.thread_id = d.thread_id
order by p.thread_id;

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
-- The threads to which nothing was appended since a time, in the order of their ids.
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
