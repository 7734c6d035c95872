-- Counting rows and bytes.

-- name: stats_begin
-- When the log was set up, and what time it is.
select min(m.applied_at) as set_up_at, {schema}.clock_v1() as now
from {schema}.migrations as m;

-- name: stats_events
-- Events and their bytes, of all times and since one.
select
    count(*) as rows,
    coalesce(sum(octet_length(e.body)), 0)::bigint as bytes,
    count(*) filter (where e.recorded_at >= %(since)s) as recent_rows,
    coalesce(sum(octet_length(e.body)) filter (where e.recorded_at >= %(since)s), 0)::bigint as recent_bytes
from {schema}.events as e;

-- name: stats_checkpoints
-- A sample of checkpoints: bytes of their states, and how far a reader replays.
select
    count(*) as rows,
    coalesce(sum(c.state_bytes), 0)::bigint as state_bytes,
    coalesce(percentile_disc(0.5) within group (order by c.seq - c.keyframe_seq), 0) as replay_median,
    coalesce(percentile_disc(0.95) within group (order by c.seq - c.keyframe_seq), 0) as replay_p95,
    coalesce(max(c.seq - c.keyframe_seq), 0) as replay_max
from {schema}.checkpoints as c tablesample system (%s);

-- name: stats_snapshots
-- Snapshots and their bytes.
select count(*) as rows, coalesce(sum(octet_length(n.body)), 0)::bigint as bytes
from {schema}.snapshots as n;

-- name: stats_streams
-- How many streams and threads have data.
select count(*) as streams, count(distinct s.thread_id) as threads
from {schema}.streams as s
where s.latest_checkpoint_id is not null or s.written_through is not null;

-- name: stats_threads
-- How many threads there are, as the planner estimates it.
select (case when p.n_distinct < 0 then -p.n_distinct * %(streams)s else p.n_distinct end)::bigint as threads
from pg_catalog.pg_stats as p
where p.schemaname = %(schema)s and p.tablename = 'streams' and p.attname = 'thread_id' and p.n_distinct <> 0;

-- name: stats_relations
-- Rows as the planner estimates them: as dense as when the table was analyzed. Its counters are of no use where a
-- table was filled and analyzed in one go, as a rebuild does it: they count all of it twice.
select
    c.relname::text as name,
    sum(
        case
            when l.reltuples >= 0 and l.relpages > 0
                then l.reltuples * (pg_relation_size(l.oid) / current_setting('block_size')::int) / l.relpages
            else greatest(pg_stat_get_live_tuples(l.oid), 0)
        end
    )::bigint as rows,
    sum(pg_total_relation_size(l.oid))::bigint as bytes,
    sum(pg_relation_size(l.oid))::bigint as heap_bytes,
    sum(pg_indexes_size(l.oid))::bigint as index_bytes,
    sum(coalesce(pg_total_relation_size(nullif(l.reltoastrelid, 0)), 0))::bigint as toast_bytes
from pg_catalog.pg_class as c
left join pg_catalog.pg_inherits as i on c.oid = i.inhparent
inner join pg_catalog.pg_class as l on l.oid = coalesce(i.inhrelid, c.oid)
where c.relnamespace = '{schema}'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
group by c.relname
order by sum(pg_total_relation_size(l.oid)) desc, c.relname asc;
