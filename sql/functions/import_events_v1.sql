-- Appends a batch of imported checkpoints and writes, in the order of their numbers, to a stream that this transaction
-- began.
--
-- p_seq is the last event that the caller has appended; null begins the stream. A stream that exists already is refused
-- (unique violation), with data or erased. If another transaction holds the thread's import lock exclusively, the call
-- is refused too (serialization failure: retry).
--
-- As in append_together_v1, the events' bytes are in the arrays, at their numbers; empty for none. A base is an event
-- of this stream; a keyframe without a time is in this batch. o_seq and o_at are number and time of the last event.
create or replace function {schema}.import_events_v1(
    p_thread_id text, p_checkpoint_ns text, p_seq bigint, p_events json, p_state_digests bytea[], p_contents bytea[],
    p_bodies bytea[], p_snapshots bytea[],
    out o_seq bigint, out o_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_events {schema}.append_call[] := array(
        select e from json_populate_recordset(null::{schema}.append_call, p_events) as e
        where e.kind in (1, 2)
        order by e.number
    );
    v_event {schema}.append_call;
    v_done {schema}.append_call[] := array[]::{schema}.append_call[];
    v_stream record;
    v_digest bytea;
    v_xid xid8 := pg_current_xact_id();
    v_latest_id text;
    v_written_id text;
    v_name bytea := uuid_send(gen_random_uuid());
begin
    if not {schema}.import_lock_v1(p_thread_id, false) then
        raise exception 'another transaction deletes thread % or searches for it', p_thread_id
            using errcode = 'serialization_failure';
    end if;
    if p_seq is null then
        perform {schema}.adopt_stream_v1(p_thread_id, p_checkpoint_ns);
        insert into {schema}.streams (thread_id, checkpoint_ns, name, seq, digest, xid, updated_at)
        values (p_thread_id, p_checkpoint_ns, v_name, 0, '', v_xid, {schema}.clock_v1())
        on conflict (thread_id, checkpoint_ns) do nothing;
        if not found then
            raise exception 'thread % exists', p_thread_id using errcode = 'unique_violation';
        end if;
    end if;
    select s.seq, s.digest, s.updated_at, s.latest_checkpoint_id, s.written_through into v_stream
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns
    for update;
    -- Only the transaction that began a stream may import into it: no other transaction has seen its events.
    if
        v_stream.seq is distinct from coalesce(p_seq, 0)
        or p_seq is not null and not {schema}.began_stream_v1(p_thread_id, p_checkpoint_ns)
    then
        raise exception 'thread % exists', p_thread_id using errcode = 'unique_violation';
    end if;
    o_seq := v_stream.seq;
    o_at := greatest(v_stream.updated_at, {schema}.clock_v1());
    v_digest := v_stream.digest;
    v_latest_id := v_stream.latest_checkpoint_id;
    v_written_id := v_stream.written_through;

    foreach v_event in array v_events loop
        o_seq := o_seq + 1;
        v_digest := {schema}.next_digest_v1(
            v_digest, o_seq, o_at,
            {schema}.event_leaf_v1(
                v_event.kind, p_thread_id, p_checkpoint_ns, v_event.checkpoint_id, v_event.base_seq,
                p_contents[v_event.number]
            )
        );
        if v_event.kind = 1 then
            v_latest_id := greatest(v_latest_id, v_event.checkpoint_id);
        else
            v_written_id := greatest(v_written_id, v_event.checkpoint_id);
        end if;
        v_event.seq := o_seq;
        v_event.digest := v_digest;
        v_done := v_done || v_event;
    end loop;

    insert into {schema}.events
        (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, state_digest, digest, body)
    select
        p_thread_id, p_checkpoint_ns, d.seq, o_at, v_xid, d.kind, d.checkpoint_id, d.base_seq,
        p_state_digests[d.number], d.digest, p_bodies[d.number]
    from unnest(v_done) as d
    order by d.number;

    insert into {schema}.checkpoints
        (
            thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id,
            keyframe_seq, keyframe_at, state_bytes, run_id, metadata
        )
    select
        p_thread_id, p_checkpoint_ns, d.checkpoint_id, d.seq, o_at, o_at, d.parent_id,
        d.keyframe_seq, coalesce(d.keyframe_at, o_at), d.state_bytes, d.run_id, d.metadata::jsonb
    from unnest(v_done) as d
    where d.kind = 1;

    insert into {schema}.snapshots (thread_id, checkpoint_ns, seq, recorded_at, body)
    select p_thread_id, p_checkpoint_ns, d.seq, o_at, p_snapshots[d.number]
    from unnest(v_done) as d
    where p_snapshots[d.number] <> '';

    update {schema}.streams as s
    set
        seq = o_seq,
        updated_at = o_at,
        digest = v_digest,
        latest_checkpoint_id = v_latest_id,
        written_through = v_written_id,
        active_at = o_at
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
end
$function$;
