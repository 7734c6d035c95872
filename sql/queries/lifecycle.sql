-- Erasing, relocating and copying the events of threads.

-- name: lock_streams
-- The root's row first, as every append and every operation does.
select o_thread_id, o_checkpoint_ns from {schema}.lock_streams_v1(%s);

-- name: stream_tips
-- The streams of threads: where each ends.
select
    s.thread_id, s.checkpoint_ns, s.seq, s.digest, s.begins_at, s.active_at,
    s.latest_checkpoint_id is not null or s.written_through is not null as has_data,
    {schema}.record_details_v1(e.body) as last_operation,
    greatest(s.updated_at + interval '1 microsecond', {schema}.clock_v1()) as now
from {schema}.streams as s
left join {schema}.events as e
    on
        s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns and s.seq = e.seq
        and s.updated_at = e.recorded_at and e.kind > 2
where s.thread_id = any(%s)
order by s.thread_id, s.checkpoint_ns;

-- name: outline_events
-- The events of a thread without bodies.
select
    e.seq, e.base_seq, e.recorded_at, e.kind, e.checkpoint_id, e.checkpoint_ns, e.thread_id, e.position, e.digest,
    e.as_of, pg_catalog.octet_length(e.body) as bytes
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where e.thread_id = %s and e.recorded_at >= coalesce(s.begins_at, '-infinity')
order by e.checkpoint_ns, e.seq;

-- name: outline_checkpoints
-- The rows of `checkpoints` of a thread.
select
    c.checkpoint_ns, c.checkpoint_id, c.seq, c.parent_checkpoint_id, c.recorded_at, c.first_at,
    c.keyframe_seq, c.keyframe_at, c.state_bytes, c.run_id, c.metadata -> 'parents'::text ->> ''::text as root_id,
    array(
        select pg_catalog.jsonb_object_keys(
            case pg_catalog.jsonb_typeof(c.metadata -> 'counters_since_delta_snapshot'::text)
                when 'object' then c.metadata -> 'counters_since_delta_snapshot'::text
                else '{{}}'::jsonb
            end
        )
    ) as delta_channels
from {schema}.checkpoints as c
where c.thread_id = %s
order by c.checkpoint_ns, c.seq;

-- name: outline_snapshots
-- The snapshots of a thread without bodies.
select s.checkpoint_ns, s.seq, pg_catalog.octet_length(s.body) as bytes
from {schema}.snapshots as s
where s.thread_id = %s;

-- name: delete_thread
-- Erases a thread.
select o_is_idle, o_events, o_checkpoints, o_bytes from {schema}.delete_thread_v1(%s, %s, %s, %s, %s);

-- name: relocate_events
-- Relocates events of a stream.
select {schema}.relocate_events_v1(%s, %s, %s, %s, %s, %s, %b);

-- name: cut_stream
-- Erases a part of a stream.
select
    {schema}.cut_stream_v1(
        %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s,
        %s, %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::boolean[], %s, %s
    );

-- name: copy_stream
-- Copies a stream to another thread.
select o_events, o_checkpoints from {schema}.copy_stream_v1(%s, %s, %s, %s, %s, %s, %s, %s::jsonb);
