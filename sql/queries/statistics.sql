-- Counting rows and bytes.

-- name: stats_begin
-- When the log was set up, and the current time.
select pg_catalog.min(m.applied_at) as set_up_at, {schema}.clock_v1() as now
from {schema}.migrations as m;

-- name: stats_events
-- Events and their bytes by partition: of all times, and since one time. Partitions are numbered from 1 in the order of
-- their beginnings, `starts`.
select
    pg_catalog.width_bucket(e.recorded_at, %(starts)s::timestamptz[]) as number,
    pg_catalog.count(*) as rows,
    coalesce(pg_catalog.sum(pg_catalog.octet_length(e.body)), 0)::bigint as bytes,
    pg_catalog.count(*) filter (where e.recorded_at >= %(since)s) as recent_rows,
    coalesce(
        pg_catalog.sum(pg_catalog.octet_length(e.body)) filter (where e.recorded_at >= %(since)s), 0
    )::bigint as recent_bytes
from {schema}.events as e
group by pg_catalog.width_bucket(e.recorded_at, %(starts)s::timestamptz[]);

-- name: stats_checkpoints
-- A sample of checkpoints by how many events a reader replays, fewest first: their number, and bytes of their states.
select
    c.seq - c.keyframe_seq as replay, pg_catalog.count(*) as rows,
    coalesce(pg_catalog.sum(c.state_bytes), 0)::bigint as state_bytes
from {schema}.checkpoints as c tablesample system (%s)
group by c.seq - c.keyframe_seq
order by c.seq - c.keyframe_seq;

-- name: stats_snapshots
-- Snapshots and their bytes.
select pg_catalog.count(*) as rows, coalesce(pg_catalog.sum(pg_catalog.octet_length(n.body)), 0)::bigint as bytes
from {schema}.snapshots as n;

-- name: stats_streams
-- How many streams there are, and how many streams and threads have data.
select
    pg_catalog.count(*) as rows,
    pg_catalog.count(*) filter (
        where s.latest_checkpoint_id is not null or s.written_through is not null
    ) as streams,
    pg_catalog.count(distinct s.thread_id) filter (
        where s.latest_checkpoint_id is not null or s.written_through is not null
    ) as threads
from {schema}.streams as s;

-- name: stats_table
-- How many rows a table has.
select %(name)s::text as name, pg_catalog.count(*) as rows
from {schema}.{table};

-- name: stats_threads
-- The planner's estimate of the number of threads. On Citus the coordinator's planner has none.
select (
    case when p.n_distinct < 0::real then (-p.n_distinct)::float8 * %(streams)s::float8 else p.n_distinct::float8 end
)::bigint as threads
from pg_catalog.pg_stats as p
where p.schemaname = %(schema)s and p.tablename = 'streams' and p.attname = 'thread_id' and p.n_distinct <> 0::real;

-- name: stats_relations
-- The sizes of tables, with their partitions. Their rows are estimated (relation_sizes_v1).
with there as materialized (
    select
        c.oid, c.relname,
        coalesce(i.inhrelid, c.oid) as leaf, pg_catalog.has_table_privilege(c.oid, 'select') as may_read
    from pg_catalog.pg_class as c
    left join pg_catalog.pg_inherits as i on c.oid = i.inhparent
    where c.relnamespace = '{schema}'::regnamespace::oid and c.relkind in ('r', 'p') and not c.relispartition
)

select
    t.relname::text as name, pg_catalog.sum(z.o_rows)::bigint as rows, pg_catalog.sum(z.o_bytes)::bigint as bytes,
    pg_catalog.sum(z.o_heap_bytes)::bigint as heap_bytes, pg_catalog.sum(z.o_index_bytes)::bigint as index_bytes,
    pg_catalog.sum(z.o_toast_bytes)::bigint as toast_bytes,
    pg_catalog.bool_and(t.may_read) as may_read
from there as t
inner join {schema}.relation_sizes_v1(array(select o.leaf from there as o)) as z on t.leaf = z.o_relation
group by t.oid, t.relname
order by pg_catalog.sum(z.o_bytes) desc, t.relname asc;
