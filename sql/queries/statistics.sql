-- Counting rows and bytes.

-- name: stats_begin
-- When the log was set up, and the current time.
select pg_catalog.min(m.applied_at) as set_up_at, {schema}.clock_v1() as now
from {schema}.migrations as m;

-- name: stats_events
-- Events and their bytes by partition: of all times, and since one time.
select
    c.relname::text as partition,
    pg_catalog.count(*) as rows,
    coalesce(pg_catalog.sum(pg_catalog.octet_length(e.body)), 0)::bigint as bytes,
    pg_catalog.count(*) filter (where e.recorded_at >= %(since)s) as recent_rows,
    coalesce(
        pg_catalog.sum(pg_catalog.octet_length(e.body)) filter (where e.recorded_at >= %(since)s), 0
    )::bigint as recent_bytes
from {schema}.events as e
inner join pg_catalog.pg_class as c on e.tableoid = c.oid
group by c.relname;

-- name: stats_checkpoints
-- A sample of checkpoints: bytes of their states, and how many events a reader replays.
select
    pg_catalog.count(*) as rows,
    coalesce(pg_catalog.sum(c.state_bytes), 0)::bigint as state_bytes,
    coalesce(pg_catalog.percentile_disc(0.5) within group (order by c.seq - c.keyframe_seq), 0) as replay_median,
    coalesce(pg_catalog.percentile_disc(0.95) within group (order by c.seq - c.keyframe_seq), 0) as replay_p95,
    coalesce(pg_catalog.max(c.seq - c.keyframe_seq), 0) as replay_max
from {schema}.checkpoints as c tablesample system (%s);

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
-- The planner's estimate of the number of threads.
select (
    case when p.n_distinct < 0::real then (-p.n_distinct)::float8 * %(streams)s::float8 else p.n_distinct::float8 end
)::bigint as threads
from pg_catalog.pg_stats as p
where p.schemaname = %(schema)s and p.tablename = 'streams' and p.attname = 'thread_id' and p.n_distinct <> 0::real;

-- name: stats_relations
-- The planner's estimate of a table's rows: as dense as when the table was analyzed. Its counters of live rows are
-- wrong if one transaction filled and analyzed the table: they count those rows twice.
select
    c.relname::text as name,
    pg_catalog.sum(
        case
            when l.reltuples >= 0::real and l.relpages > 0
                then
                    l.reltuples::float8
                    * (pg_catalog.pg_relation_size(l.oid) / pg_catalog.current_setting('block_size')::int)::float8
                    / l.relpages::float8
            else greatest(pg_catalog.pg_stat_get_live_tuples(l.oid), 0)
        end
    )::bigint as rows,
    pg_catalog.sum(pg_catalog.pg_total_relation_size(l.oid))::bigint as bytes,
    pg_catalog.sum(pg_catalog.pg_relation_size(l.oid))::bigint as heap_bytes,
    pg_catalog.sum(pg_catalog.pg_indexes_size(l.oid))::bigint as index_bytes,
    pg_catalog.sum(
        coalesce(pg_catalog.pg_total_relation_size(nullif(l.reltoastrelid, 0::oid)), 0)
    )::bigint as toast_bytes,
    pg_catalog.has_table_privilege(c.oid, 'select') as may_read
from pg_catalog.pg_class as c
left join pg_catalog.pg_inherits as i on c.oid = i.inhparent
inner join pg_catalog.pg_class as l on l.oid = coalesce(i.inhrelid, c.oid)
where c.relnamespace = '{schema}'::regnamespace::oid and c.relkind in ('r', 'p') and not c.relispartition
group by c.oid, c.relname
order by pg_catalog.sum(pg_catalog.pg_total_relation_size(l.oid)) desc, c.relname asc;
