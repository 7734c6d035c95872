-- Appends a checkpoint like append_checkpoint_v1, but refuses a concurrent fork (`concurrency="strict"`). It has two
-- more answers:
--   'concurrent'  another child of the parent, o_rival_id, was appended since the writer read the parent (rival_of_v1)
--   'unsaved'     the parent does not exist, other checkpoints do, and o_rival_id is the latest of them
--
-- The stream's row is locked before the check, so that no append comes between check and append. A new stream has no
-- row to lock. There the append comes first: it waits for another transaction that begins the stream, and is undone by
-- a unique violation if there was one, as when two transactions put the same checkpoint id. The caller tries again and
-- gets the rival's id.
create or replace function {schema}.append_checkpoint_strict_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_parent_id text, p_root_id text,
    p_base_seq bigint, p_base_at timestamptz, p_epoch bigint, p_keyframe_seq bigint, p_keyframe_at timestamptz,
    p_replaces boolean, p_is_keyframe boolean, p_state_bytes bigint,
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
    -- The root's row before the stream's own, in the order of advance_stream_v1 and of an erasure.
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
        -- An existing checkpoint is older than anything it might conflict with: its writer is putting it again.
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
        p_base_seq, p_base_at, p_epoch, p_keyframe_seq, p_keyframe_at, p_replaces,
        p_is_keyframe, p_state_bytes,
        p_run_id, p_metadata, p_state_digest, p_content, p_body, p_snapshot
    );
    if
        v_is_new and v_appended.o_status = 'ok' and v_appended.o_seq > 1
        and {schema}.rival_of_v1(p_thread_id, p_checkpoint_ns, p_checkpoint_id, p_parent_id, p_after) is not null
    then
        raise exception 'another transaction began the stream of checkpoint % at the same time', p_checkpoint_id
            using errcode = 'unique_violation';
    end if;
    o_status := v_appended.o_status;
    o_seq := v_appended.o_seq;
    o_at := v_appended.o_at;
    o_epoch := v_appended.o_epoch;
    o_digest := v_appended.o_digest;
end
$function$;
