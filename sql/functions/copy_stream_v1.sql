-- Copies a stream to another thread: events with new numbers, snapshots and projection rows, as stored.
--
-- The target stream must have no data. p_seqs and p_ids choose events and checkpoints; null takes all. The caller has
-- locked both streams' rows; a new target has none yet. Of p_details the record takes only "request" and
-- "checkpoint_id": verification trusts the other keys of a record, so a writer may not set them.
create or replace function {schema}.copy_stream_v1(
    p_source text, p_target text, p_checkpoint_ns text, p_seqs bigint[], p_ids text[],
    p_operation text, p_actor text, p_details jsonb,
    out o_events bigint, out o_checkpoints bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_source record;
    v_target record;
    v_seqs bigint[];
    v_event record;
    v_at timestamptz;
    v_digest bytea;
    v_xid xid8;
    v_name bytea := uuid_send(gen_random_uuid());
begin
    select s.seq, s.digest, s.begins_at into v_source
    from {schema}.streams as s
    where s.thread_id = p_source and s.checkpoint_ns = p_checkpoint_ns;
    perform {schema}.adopt_stream_v1(p_target, p_checkpoint_ns);
    insert into {schema}.streams (thread_id, checkpoint_ns, name, seq, digest, xid, updated_at)
    values (p_target, p_checkpoint_ns, v_name, 0, '', pg_current_xact_id(), {schema}.clock_v1())
    on conflict (thread_id, checkpoint_ns) do nothing;
    select s.seq, s.digest, s.xid, s.updated_at, s.erased_through, s.active_at into v_target
    from {schema}.streams as s
    where s.thread_id = p_target and s.checkpoint_ns = p_checkpoint_ns
    for update;
    if v_target.active_at is not null then
        raise exception 'thread % has data', p_target using errcode = 'unique_violation';
    end if;
    v_at := greatest(v_target.updated_at, {schema}.clock_v1());
    v_digest := v_target.digest;
    v_xid := {schema}.effective_xid_v1(v_target.xid);

    select array_agg(e.seq order by e.seq) into v_seqs
    from {schema}.events as e
    where
        e.thread_id = p_source and e.checkpoint_ns = p_checkpoint_ns and e.kind in (1, 2)
        and e.recorded_at >= coalesce(v_source.begins_at, '-infinity')
        and (p_seqs is null or e.seq = any(p_seqs));
    for v_event in
        select
            v_target.seq + n.number as seq, e.kind, e.checkpoint_id, v_target.seq + b.number as base_seq,
            e.state_digest, e.body
        from unnest(v_seqs) with ordinality as n (seq, number)
        inner join {schema}.events as e
            on
                e.thread_id = p_source and e.checkpoint_ns = p_checkpoint_ns and e.seq = n.seq
                and e.recorded_at >= coalesce(v_source.begins_at, '-infinity')
        left join unnest(v_seqs) with ordinality as b (seq, number) on b.seq = e.base_seq
        order by n.number
    loop
        v_digest := {schema}.next_digest_v1(
            v_digest, v_event.seq, v_at,
            {schema}.event_leaf_v1(
                v_event.kind, p_target, p_checkpoint_ns, v_event.checkpoint_id, v_event.base_seq,
                sha256(v_event.state_digest || sha256(v_event.body))
            )
        );
        insert into {schema}.events
            (
                thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, state_digest, digest, body
            )
        values (
            p_target, p_checkpoint_ns, v_event.seq, v_at, v_xid, v_event.kind, v_event.checkpoint_id, v_event.base_seq,
            v_event.state_digest, v_digest, v_event.body
        );
    end loop;
    o_events := coalesce(cardinality(v_seqs), 0);

    insert into {schema}.snapshots (thread_id, checkpoint_ns, seq, recorded_at, body)
    select p_target, p_checkpoint_ns, v_target.seq + n.number, v_at, s.body
    from {schema}.snapshots as s
    inner join unnest(v_seqs) with ordinality as n (seq, number) on n.seq = s.seq
    where s.thread_id = p_source and s.checkpoint_ns = p_checkpoint_ns;
    insert into {schema}.checkpoints (
        thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id,
        keyframe_seq, keyframe_at, state_bytes, run_id, metadata
    )
    select
        p_target, p_checkpoint_ns, c.checkpoint_id, v_target.seq + n.number, v_at, v_at, c.parent_checkpoint_id,
        v_target.seq + k.number, v_at, c.state_bytes, c.run_id, c.metadata
    from {schema}.checkpoints as c
    inner join unnest(v_seqs) with ordinality as n (seq, number) on n.seq = c.seq
    inner join unnest(v_seqs) with ordinality as k (seq, number) on k.seq = c.keyframe_seq
    where
        c.thread_id = p_source and c.checkpoint_ns = p_checkpoint_ns
        and (p_ids is null or c.checkpoint_id = any(p_ids));
    get diagnostics o_checkpoints = row_count;

    update {schema}.streams as s
    set
        seq = v_target.seq + o_events,
        digest = v_digest,
        xid = v_xid,
        updated_at = v_at,
        active_at = v_at,
        latest_checkpoint_id = (
            select max(c.checkpoint_id) from {schema}.checkpoints as c
            where c.thread_id = p_target and c.checkpoint_ns = p_checkpoint_ns
        ),
        written_through = (
            select max(e.checkpoint_id) from {schema}.events as e
            where
                e.thread_id = p_target and e.checkpoint_ns = p_checkpoint_ns and e.kind = 2
                and e.recorded_at >= v_at
        )
    where s.thread_id = p_target and s.checkpoint_ns = p_checkpoint_ns;
    perform {schema}.record_operation_v1(
        p_target, p_checkpoint_ns, 5::smallint, coalesce(v_target.erased_through, ''), null, p_operation, p_actor,
        jsonb_build_object(
            'request', p_details ->> 'request', 'checkpoint_id', p_details ->> 'checkpoint_id',
            'source', p_source, 'source_seq', v_source.seq, 'source_digest', encode(v_source.digest, 'hex'),
            'events', o_events, 'checkpoints', o_checkpoints
        )
    );
end
$function$;
