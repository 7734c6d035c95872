-- Appends a checkpoint event and updates `streams`, `checkpoints` and `snapshots`, in one statement.
--
-- The base is the parent's event, from which the caller's state was made. The body is a difference from the base, or (a
-- keyframe without a snapshot) the whole state: nothing is replayed from the base then, but inherited values still came
-- from it. p_keyframe_seq and p_keyframe_at say where replaying the base starts.
--
-- o_status 'ok' comes with the stream's new head: the event's seq, time and digest, and the epoch. Any other status
-- means that nothing was written:
--   'exists'  the checkpoint id is taken and p_replaces is false: the caller compares, and repeats with true if the
--             content differs
--   'stale'   the base (the parent's event p_base_seq at p_base_at) is not the parent's current event: read it again
--   'erased'  the parent was erased, or the root graph's checkpoint p_root_id that the subgraph runs under
create or replace function {schema}.append_checkpoint_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_parent_id text, p_root_id text,
    p_base_seq bigint, p_base_at timestamptz, p_epoch bigint, p_keyframe_seq bigint, p_keyframe_at timestamptz,
    p_replaces boolean, p_is_keyframe boolean, p_state_bytes bigint,
    p_run_id text, p_metadata jsonb, p_state_digest bytea, p_content bytea, p_body bytea, p_snapshot bytea,
    out o_status text, out o_seq bigint, out o_at timestamptz, out o_epoch bigint, out o_digest bytea
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_base_seq bigint := case when p_snapshot is not null or not p_is_keyframe then p_base_seq end;
    v_leaf bytea := {schema}.event_leaf_v1(
        1::smallint, p_thread_id, p_checkpoint_ns, p_checkpoint_id, v_base_seq, p_content
    );
    v_now timestamptz := {schema}.clock_v1();
    -- Null on a standby: there the update below fails, with a clearer error than assigning an id would.
    v_current xid8 := case when not pg_is_in_recovery() then pg_current_xact_id() end;
    v_xid xid8;
    v_first_at timestamptz;
    v_is_there boolean;
    v_next record;
begin
    -- The usual case: the base is the parent's event and is replayed from where the caller says; the id is free, as it
    -- is greater than all others; and by the epoch nothing was erased or replaced. Number and epoch alone would not
    -- prove it: after a restore to an earlier time, or a failover, they are handed out again, but the event's time is
    -- not. The update sets the same columns as advance_stream_v1. What changes the base after the first statement
    -- changes the epoch too, which the second compares under the row's lock. A statement on one table is planned
    -- fastest on Citus, which plans it for each call.
    if p_base_seq is not null and not p_replaces then
        perform 1 from {schema}.checkpoints as b
        where
            b.thread_id = p_thread_id and b.checkpoint_ns = p_checkpoint_ns and b.checkpoint_id = p_parent_id
            and b.seq = p_base_seq and b.recorded_at = p_base_at
            and b.keyframe_seq = p_keyframe_seq and b.keyframe_at = p_keyframe_at;
        if found then
            update {schema}.streams as s
            set
                seq = s.seq + 1,
                updated_at = greatest(s.updated_at, v_now),
                digest = {schema}.next_digest_v1(s.digest, s.seq + 1, greatest(s.updated_at, v_now), v_leaf),
                xid = v_current,
                latest_checkpoint_id = p_checkpoint_id,
                active_at = greatest(s.updated_at, v_now)
            where
                s.thread_id = p_thread_id
                and s.checkpoint_ns = p_checkpoint_ns
                and s.epoch = p_epoch
                and s.latest_checkpoint_id < p_checkpoint_id
                and s.xid <= v_current
            returning s.seq, s.updated_at, s.epoch, s.digest, s.xid
            into o_seq, o_at, o_epoch, o_digest, v_xid;
        end if;
    end if;

    if o_seq is null then
        perform 1 from {schema}.checkpoints as c
        where c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_checkpoint_id;
        v_is_there := found;
        if v_is_there and not p_replaces then
            o_status := 'exists';
            return;
        end if;
        -- The checkpoint that the caller saw may be erased by now: then nothing is replaced, and the epoch stays.
        p_replaces := v_is_there;

        if p_base_seq is not null then
            -- An erasure may have moved the keyframe since the caller read it.
            select c.keyframe_seq, c.keyframe_at into p_keyframe_seq, p_keyframe_at
            from {schema}.checkpoints as c
            where
                c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_parent_id
                and c.seq = p_base_seq and c.recorded_at = p_base_at;
            if not found then
                o_status := 'stale';
                return;
            end if;
        end if;

        -- Assigned, not selected: PL/pgSQL evaluates the call as an expression, without running a plan.
        v_next := {schema}.advance_stream_v1(
            p_thread_id, p_checkpoint_ns, v_leaf, p_checkpoint_id, null,
            case when p_base_seq is null then p_parent_id end,
            p_root_id,
            case when p_base_seq is not null then p_epoch end,
            p_replaces
        );
        if v_next.o_status <> 'ok' then
            o_status := v_next.o_status;
            return;
        end if;
        o_seq := v_next.o_seq;
        o_at := v_next.o_at;
        o_epoch := v_next.o_epoch;
        o_digest := v_next.o_digest;
        v_xid := v_next.o_xid;
    end if;
    o_status := 'ok';

    insert into {schema}.events
        (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, state_digest, digest, body)
    values (
        p_thread_id, p_checkpoint_ns, o_seq, o_at, v_xid, 1, p_checkpoint_id, v_base_seq, p_state_digest, o_digest, p_body
    );

    -- Without p_replaces a second row is a unique violation: of two writers of one new checkpoint id, one must look.
    -- The same error if the row to replace was erased while this call waited for the stream's row.
    if p_replaces then
        delete from {schema}.checkpoints as c
        where
            c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_checkpoint_id
        returning c.first_at into v_first_at;
        if not found then
            raise exception 'checkpoint % was erased at the same time', p_checkpoint_id using errcode = 'unique_violation';
        end if;
    end if;
    insert into {schema}.checkpoints
        (
            thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id,
            keyframe_seq, keyframe_at, state_bytes, run_id, metadata
        )
    values (
        p_thread_id, p_checkpoint_ns, p_checkpoint_id, o_seq, o_at, coalesce(v_first_at, o_at), p_parent_id,
        case when p_is_keyframe then o_seq else p_keyframe_seq end,
        case when p_is_keyframe then o_at else p_keyframe_at end, p_state_bytes, p_run_id, p_metadata
    );

    if p_snapshot is not null then
        insert into {schema}.snapshots (thread_id, checkpoint_ns, seq, recorded_at, body)
        values (p_thread_id, p_checkpoint_ns, o_seq, o_at, p_snapshot);
    end if;
end
$function$;
