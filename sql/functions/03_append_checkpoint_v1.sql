-- Appends "checkpoint saved" and brings `streams`, `checkpoints` and `snapshots` up to date, in one statement.
--
-- o_status 'ok' comes with the event's seq, time and the stream's epoch. Otherwise nothing was written:
--   'exists'  the checkpoint id is taken and p_replaces is false: the caller compares, and repeats with true if it
--             differs
--   'stale'   the base (the parent's event p_base_seq at p_base_at) is not the parent's current event: read it again
--   'erased'  the parent was erased, or the root graph's checkpoint p_root_id that the subgraph runs under
create or replace function {schema}.append_checkpoint_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_parent_id text, p_root_id text,
    p_base_seq bigint, p_base_at timestamptz, p_epoch bigint, p_replaces boolean,
    p_is_keyframe boolean, p_state_bytes bigint,
    p_run_id text, p_metadata jsonb, p_body bytea, p_snapshot bytea,
    out o_status text, out o_seq bigint, out o_at timestamptz, out o_epoch bigint
)
language plpgsql as $function$
declare
    v_digest bytea;
    v_xid xid8;
    v_first_at timestamptz;
    v_keyframe_seq bigint;
    v_keyframe_at timestamptz;
begin
    perform 1 from {schema}.checkpoints as c
    where c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_checkpoint_id;
    if found and not p_replaces then
        o_status := 'exists';
        return;
    end if;
    -- What the caller saw may be erased by now: then nothing is replaced, and the epoch stays.
    p_replaces := found;

    -- The epoch alone would do, but for a database restored to an earlier time, where numbers are handed out again. Where
    -- replaying the base starts is the row's to say: an erasure may have moved it since the caller read the base.
    if p_base_seq is not null then
        select c.keyframe_seq, c.keyframe_at into v_keyframe_seq, v_keyframe_at
        from {schema}.checkpoints as c
        where
            c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_parent_id
            and c.seq = p_base_seq and c.recorded_at = p_base_at;
        if not found then
            o_status := 'stale';
            return;
        end if;
    end if;

    select a.o_status, a.o_seq, a.o_at, a.o_epoch, a.o_digest, a.o_xid
    into o_status, o_seq, o_at, o_epoch, v_digest, v_xid
    from {schema}.advance_stream_v1(
        p_thread_id, p_checkpoint_ns,
        {schema}.event_leaf_v1(1::smallint, p_thread_id, p_checkpoint_ns, p_checkpoint_id, p_base_seq, p_body),
        p_checkpoint_id, null,
        case when p_base_seq is null then p_parent_id end,
        p_root_id,
        case when p_base_seq is not null then p_epoch end,
        p_replaces
    ) as a;
    if o_status <> 'ok' then
        return;
    end if;

    insert into {schema}.events
        (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, digest, body)
    values (p_thread_id, p_checkpoint_ns, o_seq, o_at, v_xid, 1, p_checkpoint_id, p_base_seq, v_digest, p_body);

    -- Without p_replaces a second row is a unique violation: two writers of one new checkpoint id, and one must look. So
    -- it is where the row that was to be replaced was erased while this waited for the stream's.
    if p_replaces then
        delete from {schema}.checkpoints as c
        where
            c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_checkpoint_id
        returning c.first_at into v_first_at;
        if not found then
            raise exception 'checkpoint % was erased meanwhile', p_checkpoint_id using errcode = 'unique_violation';
        end if;
    end if;
    insert into {schema}.checkpoints
        (
            thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id,
            keyframe_seq, keyframe_at, state_bytes, run_id, metadata
        )
    values (
        p_thread_id, p_checkpoint_ns, p_checkpoint_id, o_seq, o_at, coalesce(v_first_at, o_at), p_parent_id,
        case when p_is_keyframe then o_seq else v_keyframe_seq end,
        case when p_is_keyframe then o_at else v_keyframe_at end, p_state_bytes, p_run_id, p_metadata
    );

    if p_snapshot is not null then
        insert into {schema}.snapshots (thread_id, checkpoint_ns, seq, recorded_at, body)
        values (p_thread_id, p_checkpoint_ns, o_seq, o_at, p_snapshot);
    end if;
end
$function$;
