-- The tables of langgraph-checkpoint-postgres, in the schema {source}. Read only. {id}, {parent} and {path} are columns
-- that some versions lack, or a replacement for them.

-- name: incumbent_schema
-- The schema of its tables: the given one, or the first on the search path that has them.
select coalesce(%s::text, n.nspname::text) as schema_name
from (select pg_catalog.to_regclass('checkpoint_migrations')::oid as oid) as t
left join pg_catalog.pg_class as c on t.oid = c.oid
left join pg_catalog.pg_namespace as n on c.relnamespace = n.oid;

-- name: incumbent_columns
-- The columns of its tables.
select c.relname::text as table_name, a.attname::text as column_name
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
inner join pg_catalog.pg_attribute as a on c.oid = a.attrelid
where
    n.nspname = %s
    and c.relname in ('checkpoint_migrations', 'checkpoints', 'checkpoint_blobs', 'checkpoint_writes')
    and a.attnum > 0
    and not a.attisdropped;

-- name: incumbent_version
-- Its schema version.
select pg_catalog.max(m.v) as version from {source}.checkpoint_migrations as m;

-- name: incumbent_threads
-- The next ids of threads, in their order.
select t.thread_id
from (
    (
        select distinct c.thread_id from {source}.checkpoints as c
        where c.thread_id > %(after)s
        order by c.thread_id
        limit %(rows)s
    )
    union
    (
        select distinct w.thread_id from {source}.checkpoint_writes as w
        where w.thread_id > %(after)s
        order by w.thread_id
        limit %(rows)s
    )
) as t
order by t.thread_id
limit %(rows)s;

-- name: incumbent_namespaces
-- The namespaces of a thread.
select c.checkpoint_ns from {source}.checkpoints as c
where c.thread_id = %(thread_id)s
union
select w.checkpoint_ns from {source}.checkpoint_writes as w
where w.thread_id = %(thread_id)s;

-- name: incumbent_checkpoints
-- The next checkpoints of a stream, in the order of their ids, without values that have rows of their own.
select {id}, {parent}, c.checkpoint, c.metadata
from {source}.checkpoints as c
where c.thread_id = %s and c.checkpoint_ns = %s and {id} > %s
order by {id}
limit %s;

-- name: incumbent_value_sizes
-- The rows that hold the values of checkpoints, and their sizes in bytes.
select c.checkpoint_id, b.channel, b.version, pg_catalog.octet_length(b.blob) as bytes
from {source}.checkpoints as c
cross join lateral pg_catalog.jsonb_each_text(c.checkpoint -> 'channel_versions') as v
inner join {source}.checkpoint_blobs as b
    on
        c.thread_id = b.thread_id and c.checkpoint_ns = b.checkpoint_ns and v.key = b.channel and v.value = b.version
where c.thread_id = %s and c.checkpoint_ns = %s and c.checkpoint_id = any(%s) and b.type <> 'empty';

-- name: incumbent_values
-- Values by channel and version.
select b.channel, b.version, b.type, b.blob
from pg_catalog.json_to_recordset(%s::json) as k (channel text, version text)
inner join {source}.checkpoint_blobs as b on k.channel = b.channel and k.version = b.version
where b.thread_id = %s and b.checkpoint_ns = %s;

-- name: incumbent_shallow_values
-- The values of a stream of the shallow saver, which stores no versions of them.
select b.channel, b.type, b.blob
from {source}.checkpoints as c
cross join lateral pg_catalog.jsonb_each_text(c.checkpoint -> 'channel_versions') as v
inner join {source}.checkpoint_blobs as b
    on c.thread_id = b.thread_id and c.checkpoint_ns = b.checkpoint_ns and v.key = b.channel
where c.thread_id = %s and c.checkpoint_ns = %s and b.type <> 'empty';

-- name: incumbent_write_sizes
-- The size of the writes of checkpoints, in bytes.
select w.checkpoint_id, pg_catalog.sum(pg_catalog.octet_length(w.blob))::bigint as bytes
from {source}.checkpoint_writes as w
where w.thread_id = %s and w.checkpoint_ns = %s and w.checkpoint_id = any(%s)
group by w.checkpoint_id;

-- name: incumbent_writes
-- The writes of checkpoints.
select w.checkpoint_id, w.task_id, {path}, w.idx, w.channel, w.type, w.blob
from {source}.checkpoint_writes as w
where w.thread_id = %s and w.checkpoint_ns = %s and w.checkpoint_id = any(%s);

-- name: incumbent_orphans
-- The next ids of checkpoints that have writes but no row, in their order.
select distinct w.checkpoint_id
from {source}.checkpoint_writes as w
where
    w.thread_id = %s and w.checkpoint_ns = %s and w.checkpoint_id > %s
    and not exists (
        select 1 from {source}.checkpoints as c
        where
            c.thread_id = w.thread_id and c.checkpoint_ns = w.checkpoint_ns
            and {id} = w.checkpoint_id
    )
order by w.checkpoint_id
limit %s;

-- name: incumbent_outline
-- A digest that changes with any row of a thread, without reading values: keys and transaction ids of the rows.
select
    pg_catalog.md5(
        pg_catalog.concat_ws(
            '/',
            (
                select pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.xmin, c.ctid), ',' order by c.ctid)
                from {source}.checkpoints as c
                where c.thread_id = %(thread_id)s
            ),
            (
                select pg_catalog.string_agg(pg_catalog.concat_ws(' ', w.xmin, w.ctid), ',' order by w.ctid)
                from {source}.checkpoint_writes as w
                where w.thread_id = %(thread_id)s
            ),
            (
                select pg_catalog.string_agg(pg_catalog.concat_ws(' ', b.xmin, b.ctid), ',' order by b.ctid)
                from {source}.checkpoint_blobs as b
                where b.thread_id = %(thread_id)s
            )
        )
    ) as outline;

-- name: incumbent_thread_count
-- How many threads there are, by one index lookup for each.
with recursive t as (
    (
        select c.thread_id from {source}.checkpoints as c
        order by c.thread_id
        limit 1
    )
    union all
    select
        (
            select c.thread_id from {source}.checkpoints as c
            where c.thread_id > t.thread_id
            order by c.thread_id
            limit 1
        )
    from t
    where t.thread_id is not null
)

select pg_catalog.count(t.thread_id) as threads from t;

-- name: incumbent_last_active
-- The latest checkpoint of each namespace of threads, and its time.
select c.thread_id, c.checkpoint_id, c.checkpoint ->> 'ts' as ts
from (
    select l.thread_id, l.checkpoint_ns, pg_catalog.max(l.checkpoint_id) as checkpoint_id
    from {source}.checkpoints as l
    where l.thread_id = any(%s)
    group by l.thread_id, l.checkpoint_ns
) as l
inner join {source}.checkpoints as c
    on l.thread_id = c.thread_id and l.checkpoint_ns = c.checkpoint_ns and l.checkpoint_id = c.checkpoint_id;

-- name: incumbent_shallow_last_active
-- The same for the shallow saver.
select c.thread_id, {id}, c.checkpoint ->> 'ts' as ts
from {source}.checkpoints as c
where c.thread_id = any(%s);

-- name: incumbent_sizes
-- The size of its tables on disk in bytes, with and without indexes, and the planner's estimate of the number of
-- checkpoints.
select
    pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid))::bigint as total_bytes,
    pg_catalog.sum(pg_catalog.pg_table_size(c.oid))::bigint as table_bytes,
    pg_catalog.max(c.reltuples) filter (where c.relname = 'checkpoints')::bigint as checkpoints
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where n.nspname = %s and c.relname in ('checkpoints', 'checkpoint_blobs', 'checkpoint_writes');

-- name: incumbent_sample
-- Threads of a random sample of rows of checkpoints, a part of them in percent: a thread with more checkpoints is more
-- likely to be in it.
select distinct c.thread_id
from {source}.checkpoints as c tablesample system (%(percent)s)
order by c.thread_id;

-- name: incumbent_thread_bytes
-- The size of threads' rows as they are stored, in bytes, without indexes and free space.
select
    coalesce((
        select pg_catalog.sum(pg_catalog.pg_column_size(c.*)) from {source}.checkpoints as c
        where c.thread_id = any(%(thread_ids)s)
    ), 0)::bigint
    + coalesce((
        select pg_catalog.sum(pg_catalog.pg_column_size(b.*))
        from {source}.checkpoint_blobs as b
        where b.thread_id = any(%(thread_ids)s)
    ), 0)::bigint
    + coalesce((
        select pg_catalog.sum(pg_catalog.pg_column_size(w.*))
        from {source}.checkpoint_writes as w
        where w.thread_id = any(%(thread_ids)s)
    ), 0)::bigint as bytes;

-- name: incumbent_shallow_sends
-- The pending sends of a checkpoint, as the shallow saver returns them.
select w.type, w.blob
from {source}.checkpoint_writes as w
where w.thread_id = %s and w.checkpoint_ns = %s and w.channel = '__pregel_tasks'
order by {path}, w.task_id, w.idx;
