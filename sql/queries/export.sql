-- Exporting to PostgresSaver's tables. In queries that read or write these tables, {schema} is their schema.

-- name: export_threads
-- The next threads that have data, in the order of their ids.
select distinct s.thread_id
from {schema}.streams as s
where s.thread_id > %(after)s and (s.latest_checkpoint_id is not null or s.written_through is not null)
order by s.thread_id
limit %(rows)s;

-- name: export_orphans
-- The ids of a stream's checkpoints that have writes but no row in `checkpoints`.
select distinct e.checkpoint_id
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where
    e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s and e.kind = 2
    and e.recorded_at >= coalesce(s.begins_at, '-infinity')
    and not exists (
        select 1 from {schema}.checkpoints as c
        where
            c.thread_id = e.thread_id and c.checkpoint_ns = e.checkpoint_ns and c.checkpoint_id = e.checkpoint_id
    )
order by e.checkpoint_id;

-- name: export_checkpoints
-- Inserts checkpoints into PostgresSaver's table, skipping existing ones.
insert into {schema}.checkpoints
(thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
select %s, %s, r.checkpoint_id, r.parent_id, r.checkpoint::jsonb, r.metadata::jsonb
from unnest(%s::text[], %s::text[], %s::text[], %s::text[]) as r (checkpoint_id, parent_id, checkpoint, metadata)
on conflict do nothing
returning 0 as bytes;

-- name: export_blobs
-- Inserts values into PostgresSaver's table, skipping existing ones.
insert into {schema}.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
select %s, %s, r.channel, r.version, r.type, r.blob
from unnest(%s::text[], %s::text[], %s::text[], %b::bytea[]) as r (channel, version, type, blob)
on conflict do nothing
returning pg_catalog.octet_length(blob) as bytes;

-- name: export_writes
-- Inserts the writes of tasks into PostgresSaver's table, skipping existing ones.
insert into {schema}.checkpoint_writes
(thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
select %s, %s, r.checkpoint_id, r.task_id, r.task_path, r.idx, r.channel, r.type, r.blob
from
    unnest(%s::text[], %s::text[], %s::text[], %s::integer[], %s::text[], %s::text[], %b::bytea[])
        as r (checkpoint_id, task_id, task_path, idx, channel, type, blob)
on conflict do nothing
returning pg_catalog.octet_length(blob) as bytes;

-- name: exported_ids
-- Which checkpoints are in PostgresSaver's table.
select c.checkpoint_id
from {schema}.checkpoints as c
where c.thread_id = %s and c.checkpoint_ns = %s and c.checkpoint_id = any(%s);

-- name: exported_checkpoints
-- Checkpoints in PostgresSaver's table.
select c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint, c.metadata
from {schema}.checkpoints as c
where c.thread_id = %s and c.checkpoint_ns = %s and c.checkpoint_id = any(%s);

-- name: exported_blobs
-- Values in PostgresSaver's table, by channel and version.
select b.channel, b.version, b.type, b.blob
from unnest(%s::text[], %s::text[]) as k (channel, version)
inner join {schema}.checkpoint_blobs as b on k.channel = b.channel and k.version = b.version
where b.thread_id = %s and b.checkpoint_ns = %s and b.type <> 'empty';

-- name: exported_writes
-- The writes of checkpoints in PostgresSaver's table.
select w.checkpoint_id, w.task_id, w.task_path, w.idx, w.channel, w.type, w.blob
from {schema}.checkpoint_writes as w
where w.thread_id = %s and w.checkpoint_ns = %s and w.checkpoint_id = any(%s);

-- name: exported_counts
-- How many checkpoints and writes a thread has in PostgresSaver's tables.
select
    (
        select pg_catalog.count(*) from {schema}.checkpoints as c
        where c.thread_id = %(thread_id)s
    ) as checkpoints,
    (
        select pg_catalog.count(*) from {schema}.checkpoint_writes as w
        where w.thread_id = %(thread_id)s
    ) as writes;
