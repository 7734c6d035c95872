-- Erases a part of a stream, updates the projections, and appends the record of the operation.
--
-- The caller has locked the stream's row and relocated, at p_at, the surviving events that built on erased ones
-- (relocate_events_v1). p_seqs are the numbers of the events to erase, originals of relocated events included; they
-- were recorded between p_from and p_to. Events recorded before p_void_before are not deleted here but with their
-- partitions. p_gone are the checkpoints to erase; p_changed those that get new times and keyframes; p_orphaned marks
-- those of p_changed that lose their parent. p_details is what else the record says; p_is_end: no checkpoint and no
-- write survives.
create or replace function {schema}.cut_stream_v1(
    p_thread_id text, p_checkpoint_ns text, p_at timestamptz, p_from timestamptz, p_to timestamptz,
    p_void_before timestamptz,
    p_operation text, p_actor text, p_details jsonb, p_events bigint, p_bytes bigint, p_is_end boolean,
    p_seqs bigint[], p_gone text[], p_gone_snapshots bigint[],
    p_changed text[], p_recorded timestamptz[], p_keyframes bigint[], p_keyframes_at timestamptz[],
    p_orphaned boolean[],
    p_written_through text, p_active_at timestamptz
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_stream record;
    v_gone record;
    v_relocated jsonb;
    v_relocated_seqs bigint[];
    v_latest text;
    v_through text;
begin
    perform {schema}.check_time_v1(p_thread_id, p_checkpoint_ns, p_at);
    select s.erased_through, s.begins_at into v_stream
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
    v_through := coalesce(
        greatest(v_stream.erased_through, (select max(g.id) from unnest(p_gone) as g (id))), ''
    );

    v_gone := {schema}.erased_events_v1(
        p_thread_id, p_checkpoint_ns, p_seqs, p_at, p_from, p_to, p_void_before, p_is_end
    );
    select
        jsonb_agg(
            jsonb_build_array(
                e.seq,
                encode(
                    sha256(
                        int8send(e.seq) || timestamptz_send(e.recorded_at) || timestamptz_send(e.as_of)
                        || timestamptz_send(coalesce(e.first_at, e.as_of)) || int8send(coalesce(e.base_seq, 0))
                        || sha256(e.body)
                    ), 'hex'
                )
            ) order by e.seq
        ),
        array_agg(e.seq)
    into v_relocated, v_relocated_seqs
    from {schema}.events as e
    where e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.recorded_at = p_at;

    perform set_config('eventlog.erasing', 'on', true);
    delete from {schema}.events as e
    where
        e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.seq = any(p_seqs)
        and e.recorded_at between greatest(p_from, p_void_before) and p_to;
    -- Void events, which retention has cut but not dropped yet, are erased too.
    delete from {schema}.events as e
    where
        p_void_before is null
        and e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind in (1, 2)
        and e.recorded_at < v_stream.begins_at;
    perform set_config('eventlog.erasing', 'off', true);

    delete from {schema}.snapshots as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns and s.seq = any(p_gone_snapshots);
    update {schema}.snapshots as s
    set recorded_at = p_at
    where
        s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns and s.seq = any(v_relocated_seqs);
    delete from {schema}.checkpoints as c
    where c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = any(p_gone);
    update {schema}.checkpoints as c
    set
        recorded_at = n.recorded_at, keyframe_seq = n.keyframe_seq, keyframe_at = n.keyframe_at,
        parent_checkpoint_id = case when not n.is_orphan then c.parent_checkpoint_id end
    from
        unnest(p_changed, p_recorded, p_keyframes, p_keyframes_at, p_orphaned)
        as n (id, recorded_at, keyframe_seq, keyframe_at, is_orphan)
    where
        c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = n.id;

    -- The record must not be older than the relocated events, even if the clock went back.
    update {schema}.streams as s
    set updated_at = p_at
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns and s.updated_at < p_at;
    perform {schema}.record_operation_v1(
        p_thread_id, p_checkpoint_ns, 4::smallint, v_through, p_void_before, p_operation, p_actor,
        p_details || jsonb_build_object(
            'events', p_events, 'checkpoints', cardinality(p_gone), 'bytes', p_bytes, 'relocated', v_relocated
        ) || v_gone.o_details,
        v_gone.o_stubs
    );
    select max(c.checkpoint_id) into v_latest from {schema}.checkpoints as c
    where c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns;
    update {schema}.streams as s
    set
        latest_checkpoint_id = v_latest,
        written_through = p_written_through,
        active_at = p_active_at,
        erased_through = nullif(v_through, ''),
        begins_at = greatest(s.begins_at, p_void_before)
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
end
$function$;
