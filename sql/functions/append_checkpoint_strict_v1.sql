-- As append_checkpoint_v1, for writers that want no concurrent forks. It has two answers more:
--   'concurrent'  another child of the parent, o_rival_id, was appended since the writer read it (rival_of_v1)
--   'unsaved'     the parent is not there, where others are, of which o_rival_id is the latest
--
-- Check and append are one: the stream's row is locked before the look. A stream that is new has no row to lock. There
-- the append comes first, which waits for whoever begins the stream too, and is taken back when that was somebody else:
-- by a unique violation, as where two put one checkpoint id. The caller tries again, and is told of its rival.
create or replace function {schema}.append_checkpoint_strict_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_parent_id text, p_root_id text,
    p_base_seq bigint, p_base_at timestamptz, p_epoch bigint, p_keyframe_seq bigint, p_keyframe_at timestamptz,
    p_head_seq bigint, p_head_digest bytea, p_replaces boolean, p_is_keyframe boolean, p_state_bytes bigint,
    p_run_id text, p_metadata jsonb, p_state_digest bytea, p_content bytea, p_body bytea, p_snapshot bytea,
    p_after bigint,
    out o_status text, out o_seq bigint, out o_at timestamptz, out o_epoch bigint, out o_digest bytea,
    out o_rival_id text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_is_new boolean;
    v_appended record;
begin
    -- The root's row before the stream's own, as advance_stream_v1 and an erasure lock them.
    if p_root_id is not null and p_base_seq is null then
        perform 1 from {schema}.streams as s
        where s.thread_id = p_thread_id and s.checkpoint_ns = ''
        for key share;
    end if;
    perform 1 from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns
    for no key update;
    v_is_new := not found;

    if not v_is_new then
        -- A checkpoint that is there stood before whatever it might be concurrent with: its writer puts it again.
        perform 1 from {schema}.checkpoints as c
        where c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_checkpoint_id;
        if not found then
            o_rival_id := {schema}.rival_of_v1(
                p_thread_id, p_checkpoint_ns, p_checkpoint_id, p_parent_id, p_after
            );
            if o_rival_id is not null then
                perform 1 from {schema}.checkpoints as c
                where c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_parent_id;
                o_status := case when found or p_parent_id is null then 'concurrent' else 'unsaved' end;
                return;
            end if;
        end if;
    end if;

    v_appended := {schema}.append_checkpoint_v1(
        p_thread_id, p_checkpoint_ns, p_checkpoint_id, p_parent_id, p_root_id,
        p_base_seq, p_base_at, p_epoch, p_keyframe_seq, p_keyframe_at, p_head_seq, p_head_digest, p_replaces,
        p_is_keyframe, p_state_bytes,
        p_run_id, p_metadata, p_state_digest, p_content, p_body, p_snapshot
    );
    if
        v_is_new and v_appended.o_status = 'ok' and v_appended.o_seq > 1
        and {schema}.rival_of_v1(p_thread_id, p_checkpoint_ns, p_checkpoint_id, p_parent_id, p_after) is not null
    then
        raise exception 'the stream of checkpoint % was begun meanwhile', p_checkpoint_id
            using errcode = 'unique_violation';
    end if;
    o_status := v_appended.o_status;
    o_seq := v_appended.o_seq;
    o_at := v_appended.o_at;
    o_epoch := v_appended.o_epoch;
    o_digest := v_appended.o_digest;
end
$function$;
