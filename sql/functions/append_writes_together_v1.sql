-- Appends several "writes saved" to one stream, in their order, as so many calls of append_writes_v1 would, in one
-- transaction and with one update of the stream's row; o_status 'ok' comes with the new head. Only where nothing has to
-- be looked into: o_status is null, and nothing is written, for a stream that is new or that something was erased from,
-- and where a base is stale. Then the caller appends each by itself.
create or replace function {schema}.append_writes_together_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_ids text[],
    p_base_seqs bigint[], p_base_ats timestamptz[], p_epochs bigint[],
    p_state_digests bytea[], p_contents bytea[], p_bodies bytea[],
    out o_status text, out o_seq bigint, out o_epoch bigint, out o_digest bytea
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $function$
declare
    v_stream record;
    v_at timestamptz := {schema}.clock_v1();
    v_digest bytea;
    v_digests bytea[] := array[]::bytea[];
begin
    select s.seq, s.digest, s.updated_at, s.epoch, s.xid, s.erased_through into v_stream
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns
    -- As an update locks it: a subgraph's first append looks at its root's row (for key share) and need not wait.
    for no key update;
    -- A greater transaction id has appended before, or one of another cluster: see advance_stream_v1.
    if not found or v_stream.erased_through is not null or v_stream.xid > pg_current_xact_id() then
        return;
    end if;
    perform 1
    from unnest(p_checkpoint_ids, p_base_seqs, p_base_ats, p_epochs) as w (checkpoint_id, base_seq, base_at, epoch)
    left join {schema}.checkpoints as c
        on
            c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = w.checkpoint_id
            and c.seq = w.base_seq and c.recorded_at = w.base_at
    where w.base_seq is not null and (c.seq is null or w.epoch <> v_stream.epoch);
    if found then
        return;
    end if;

    v_at := greatest(v_stream.updated_at, v_at);
    v_digest := v_stream.digest;
    for v_number in 1 .. cardinality(p_bodies) loop
        v_digest := {schema}.next_digest_v1(
            v_digest, v_stream.seq + v_number, v_at,
            {schema}.event_leaf_v1(
                2::smallint, p_thread_id, p_checkpoint_ns, p_checkpoint_ids[v_number], p_base_seqs[v_number],
                p_contents[v_number]
            )
        );
        v_digests := v_digests || v_digest;
    end loop;

    insert into {schema}.events
        (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, state_digest, digest, body)
    select
        p_thread_id, p_checkpoint_ns, v_stream.seq + w.number, v_at, pg_current_xact_id(), 2, w.checkpoint_id,
        w.base_seq, w.state_digest, w.digest, w.body
    from
        unnest(p_checkpoint_ids, p_base_seqs, p_state_digests, v_digests, p_bodies) with ordinality
            as w (checkpoint_id, base_seq, state_digest, digest, body, number)
    order by w.number;

    update {schema}.streams as s
    set
        seq = s.seq + cardinality(p_bodies),
        updated_at = v_at,
        active_at = v_at,
        digest = v_digest,
        xid = pg_current_xact_id(),
        written_through = greatest(s.written_through, (select max(w.id collate "C") from unnest(p_checkpoint_ids) as w (id)))
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
    o_status := 'ok';
    o_seq := v_stream.seq + cardinality(p_bodies);
    o_epoch := v_stream.epoch;
    o_digest := v_digest;
end
$function$;
