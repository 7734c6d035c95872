-- Reads everything that one checkpoint consists of, in one round trip. p_checkpoint_id null: the stream's latest. Rows
-- by o_part:
--   0  the checkpoint: seq, recorded_at, o_other_seq = the stream's epoch, o_id, o_parent_id, o_body = the stream's
--      digest
--   1  a keyframe's snapshot: its seq; replay starts from it
--   2  a checkpoint event, the target's first, then back along its bases: seq, o_other_seq = base_seq, body
--   3  the caller's own state (p_known_seq at p_known_at) lies on the path: replay starts there, without older events;
--      o_other_seq and o_at = the checkpoint's keyframe, which an erasure may have moved since the caller read it
--   4  a writes event of the checkpoint, in the order of seq: seq, o_other_seq = base_seq, body
--   5  the stream's head at this moment: its last seq, o_id = its latest checkpoint. There is no such row if both are
--      the checkpoint's own, as in a thread on which no run works
create or replace function {schema}.read_checkpoint_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_known_seq bigint, p_known_at timestamptz
) returns table (
    o_part smallint, o_seq bigint, o_other_seq bigint, o_at timestamptz, o_id text, o_parent_id text, o_body bytea
)
language plpgsql stable set search_path = pg_catalog, pg_temp as $function$
declare
    v_keyframe_seq bigint;
    v_keyframe_at timestamptz;
    v_first_at timestamptz;
    v_stream record;
    v_has_writes boolean;
    v_has_more boolean;
    v_is_known boolean;
begin
    -- Two statements: Citus plans each call, and joins cost it most.
    select s.epoch, s.digest, s.begins_at, s.updated_at, s.seq, s.latest_checkpoint_id, s.written_through into v_stream
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
    if not found then
        return;
    end if;
    select
        0, c.seq, c.recorded_at, c.checkpoint_id, c.parent_checkpoint_id, c.keyframe_seq, c.keyframe_at, c.first_at,
        v_stream.written_through >= c.checkpoint_id,
        v_stream.seq <> c.seq or v_stream.latest_checkpoint_id <> c.checkpoint_id
    into
        o_part, o_seq, o_at, o_id, o_parent_id, v_keyframe_seq, v_keyframe_at, v_first_at, v_has_writes, v_has_more
    from {schema}.checkpoints as c
    where
        c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns
        and c.checkpoint_id = coalesce(p_checkpoint_id, v_stream.latest_checkpoint_id);
    if not found then
        return;
    end if;
    o_other_seq := v_stream.epoch;
    o_body := v_stream.digest;
    return next;
    o_body := null;

    v_is_known := coalesce(o_seq = p_known_seq and o_at = p_known_at, false);
    if not v_is_known or v_has_writes then
        return query
        select r.o_part, r.o_seq, r.o_other_seq, r.o_at, r.o_id, r.o_parent_id, r.o_body
        from {schema}.read_replay_v1(
            p_thread_id, p_checkpoint_ns, o_id, o_seq, o_at, v_keyframe_seq, v_keyframe_at, v_stream.begins_at,
            v_stream.updated_at, p_known_seq, p_known_at, not v_is_known,
            -- Writes may be committed before their checkpoint: allow a day.
            case when v_has_writes then greatest(v_first_at - interval '1 day', v_stream.begins_at) end
        ) as r;
    end if;
    if v_is_known then
        o_part := 3;
        o_other_seq := v_keyframe_seq;
        o_at := v_keyframe_at;
        o_id := null;
        o_parent_id := null;
        return next;
    end if;
    if v_has_more then
        o_part := 5;
        o_seq := v_stream.seq;
        o_other_seq := null;
        o_at := null;
        o_id := v_stream.latest_checkpoint_id;
        o_parent_id := null;
        return next;
    end if;
end
$function$;
