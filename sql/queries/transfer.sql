-- Importing from other checkpointers: writing to the log.

-- name: import_events
-- Appends a batch to a stream that the transaction began. Arrays of bytes go in binary (%b): see append_together.
select o_seq, o_at
from
    {schema}.import_events_v1(
        %s, %s, %s::bigint, %s::json, %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[]
    );

-- name: lock_import
-- Tries to take a thread's import lock until the transaction ends; with true, exclusively.
select {schema}.import_lock_v1(%s, %s) as locked;

-- name: record_import
-- Records an import.
select o_events, o_checkpoints from {schema}.record_import_v1(%s, %s, %s::jsonb);

-- name: imports_of
-- The latest import record of each of some threads, in their first stream.
select distinct on (e.thread_id) e.thread_id, {schema}.record_details_v1(e.body) as says
from {schema}.streams as s
inner join {schema}.events as e on s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns
where
    s.thread_id = any(%s) and e.kind = 6 and s.active_at is not null
    and e.recorded_at >= coalesce(s.begins_at, '-infinity')
order by e.thread_id asc, e.checkpoint_ns asc, e.seq desc;

-- name: checkpoint_counts
-- How many checkpoints each stream of a thread has.
select s.checkpoint_ns, pg_catalog.count(c.checkpoint_id) as checkpoints
from {schema}.streams as s
left join {schema}.checkpoints as c on s.thread_id = c.thread_id and s.checkpoint_ns = c.checkpoint_ns
where s.thread_id = %s and s.active_at is not null
group by s.checkpoint_ns
order by s.checkpoint_ns;
