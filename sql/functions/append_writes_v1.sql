-- Appends a writes event: all the writes of one put_writes call.
--
-- Their checkpoint need not be saved yet. If it is, the body may hold differences from the checkpoint's state as its
-- event p_base_seq at p_base_at left it. With p_is_relaxed the commit does not wait for the disk.
--
-- o_status 'ok' comes with the stream's new head: the event's seq, time and digest, and the epoch. Any other status
-- means that nothing was written: 'erased' if the checkpoint or the root graph's checkpoint p_root_id was erased,
-- 'stale' if the base is not the checkpoint's current event.
create or replace function {schema}.append_writes_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_root_id text,
    p_base_seq bigint, p_base_at timestamptz, p_epoch bigint,
    p_state_digest bytea, p_content bytea, p_body bytea, p_is_relaxed boolean default false,
    out o_status text, out o_seq bigint, out o_at timestamptz, out o_epoch bigint, out o_digest bytea
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $function$
declare
    v_leaf bytea := {schema}.event_leaf_v1(
        2::smallint, p_thread_id, p_checkpoint_ns, p_checkpoint_id, p_base_seq, p_content
    );
    v_now timestamptz := {schema}.clock_v1();
    -- Null on a standby: there the update below fails, with a clearer error than assigning an id would.
    v_current xid8 := case when not pg_is_in_recovery() then pg_current_xact_id() end;
    v_xid xid8;
    v_is_usual boolean;
    v_next record;
begin
    if p_is_relaxed then
        perform set_config('synchronous_commit', 'off', true);
    end if;

    -- The usual case, with the same effect as advance_stream_v1: the base is current; or there is no base, no root graph
    -- to check, and nothing erased that could be the checkpoint. One statement for each table: see append_checkpoint_v1.
    if p_base_seq is not null then
        perform 1 from {schema}.checkpoints as b
        where
            b.thread_id = p_thread_id and b.checkpoint_ns = p_checkpoint_ns and b.checkpoint_id = p_checkpoint_id
            and b.seq = p_base_seq and b.recorded_at = p_base_at;
        v_is_usual := found;
    else
        v_is_usual := p_root_id is null;
    end if;
    if v_is_usual then
        update {schema}.streams as s
        set
            seq = s.seq + 1,
            updated_at = greatest(s.updated_at, v_now),
            digest = {schema}.next_digest_v1(s.digest, s.seq + 1, greatest(s.updated_at, v_now), v_leaf),
            xid = v_current,
            written_through = greatest(s.written_through, p_checkpoint_id),
            active_at = greatest(s.updated_at, v_now)
        where
            s.thread_id = p_thread_id
            and s.checkpoint_ns = p_checkpoint_ns
            and s.xid <= v_current
            and case
                when p_base_seq is null then s.erased_through is null or p_checkpoint_id > s.erased_through
                else s.epoch = p_epoch
            end
        returning s.seq, s.updated_at, s.epoch, s.digest, s.xid into o_seq, o_at, o_epoch, o_digest, v_xid;
    end if;

    if o_seq is null then
        if p_base_seq is not null then
            perform 1 from {schema}.checkpoints as c
            where
                c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_checkpoint_id
                and c.seq = p_base_seq and c.recorded_at = p_base_at;
            if not found then
                o_status := 'stale';
                return;
            end if;
        end if;

        v_next := {schema}.advance_stream_v1(
            p_thread_id, p_checkpoint_ns, v_leaf, null, p_checkpoint_id, p_checkpoint_id, p_root_id,
            case when p_base_seq is not null then p_epoch end, false
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
        p_thread_id, p_checkpoint_ns, o_seq, o_at, v_xid, 2, p_checkpoint_id, p_base_seq, p_state_digest, o_digest, p_body
    );
end
$function$;
