-- Appends checkpoints and writes of several calls in one transaction: append_together_v1 and append_thread_v1.
--
-- Each call is appended as append_checkpoint_v1 or append_writes_v1 would in its usual case, but with one update for
-- each stream. Returns a row for each appended call: its number, 'ok' and the event. A call without a row needs a
-- closer look, and its caller makes it alone: the stream is new, another transaction holds its row, something was
-- erased, a base is stale, or a checkpoint id is taken. So this function never waits, and no call fails because of
-- another.
--
-- The calls' bytes are in the arrays, at their numbers; empty for none. With p_thread_id, calls on other threads are
-- left out.
create or replace function {schema}.append_calls_v1(
    p_thread_id text, p_calls json, p_state_digests bytea[], p_contents bytea[], p_bodies bytea[], p_snapshots bytea[]
) returns table (
    o_number integer, o_status text, o_seq bigint, o_at timestamptz, o_epoch bigint, o_digest bytea
)
language plpgsql as $function$
declare
    v_calls {schema}.append_call[] := array(
        select c from json_populate_recordset(null::{schema}.append_call, p_calls) as c
        -- A writer may not append records.
        where c.kind in (1, 2) and (p_thread_id is null or c.thread_id = p_thread_id)
        order by c.number
    );
    v_call {schema}.append_call;
    v_done {schema}.append_call[] := array[]::{schema}.append_call[];
    v_xid xid8 := pg_current_xact_id();
    v_key record;
    v_thread_id text;
    v_stream record;
    v_seq bigint;
    v_at timestamptz;
    v_digest bytea;
    v_latest_id text;
    v_written_id text;
begin
    -- Look up each stream by its key: the plan must not depend on how many there are.
    for v_key in
        select distinct c.thread_id, c.checkpoint_ns from unnest(v_calls) as c order by c.thread_id, c.checkpoint_ns
    loop
        v_thread_id := v_key.thread_id;
        select
            s.seq, s.epoch, s.digest, s.updated_at, s.erased_through, s.latest_checkpoint_id, s.written_through
        into v_stream
        from {schema}.streams as s
        where s.thread_id = v_thread_id and s.checkpoint_ns = v_key.checkpoint_ns and s.xid <= v_xid
        -- The lock that an update takes: a subgraph's first append, which locks its root's row for key share, need not
        -- wait.
        for no key update skip locked;
        continue when not found;

        v_seq := v_stream.seq;
        v_digest := v_stream.digest;
        v_at := greatest(v_stream.updated_at, {schema}.clock_v1());
        v_latest_id := v_stream.latest_checkpoint_id;
        v_written_id := v_stream.written_through;
        foreach v_call in array v_calls loop
            continue when v_call.thread_id <> v_key.thread_id or v_call.checkpoint_ns <> v_key.checkpoint_ns;
            if v_call.kind = 1 then
                continue when
                    v_call.base_seq is null
                    or v_call.epoch is distinct from v_stream.epoch
                    or v_call.checkpoint_id <= v_latest_id
                    or v_latest_id is null;
            elsif v_call.base_seq is null then
                continue when
                    v_stream.erased_through is not null
                    and (v_call.root_id is not null or v_call.checkpoint_id <= v_stream.erased_through);
            else
                continue when v_call.epoch is distinct from v_stream.epoch;
            end if;
            if v_call.base_seq is not null then
                perform 1 from {schema}.checkpoints as c
                where
                    c.thread_id = v_thread_id and c.checkpoint_ns = v_call.checkpoint_ns
                    and c.checkpoint_id = case
                        when v_call.kind = 1 then v_call.parent_id else v_call.checkpoint_id
                    end
                    and c.seq = v_call.base_seq and c.recorded_at = v_call.base_at
                    and (
                        v_call.kind = 2
                        or c.keyframe_seq = v_call.keyframe_seq and c.keyframe_at = v_call.keyframe_at
                    );
                continue when not found;
            end if;
            if v_call.kind = 1 then
                v_latest_id := v_call.checkpoint_id;
            else
                v_written_id := greatest(v_written_id, v_call.checkpoint_id);
            end if;
            -- A keyframe without a snapshot is self-contained.
            if v_call.is_keyframe and p_snapshots[v_call.number] = '' then
                v_call.base_seq := null;
            end if;
            v_seq := v_seq + 1;
            v_digest := {schema}.next_digest_v1(
                v_digest, v_seq, v_at,
                {schema}.event_leaf_v1(
                    v_call.kind, v_call.thread_id, v_call.checkpoint_ns, v_call.checkpoint_id, v_call.base_seq,
                    p_contents[v_call.number]
                )
            );
            v_call.seq := v_seq;
            v_call.at := v_at;
            v_call.epoch := v_stream.epoch;
            v_call.digest := v_digest;
            v_done := v_done || v_call;

            continue when p_thread_id is null;

            insert into {schema}.events
                (
                    thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq,
                    state_digest, digest, body
                )
            values (
                v_thread_id, v_call.checkpoint_ns, v_seq, v_at, v_xid, v_call.kind, v_call.checkpoint_id, v_call.base_seq,
                p_state_digests[v_call.number], v_digest, p_bodies[v_call.number]
            );
            if v_call.kind = 1 then
                insert into {schema}.checkpoints
                    (
                        thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id,
                        keyframe_seq, keyframe_at, state_bytes, run_id, metadata
                    )
                values (
                    v_thread_id, v_call.checkpoint_ns, v_call.checkpoint_id, v_seq, v_at, v_at, v_call.parent_id,
                    case when v_call.is_keyframe then v_seq else v_call.keyframe_seq end,
                    case when v_call.is_keyframe then v_at else v_call.keyframe_at end,
                    v_call.state_bytes, v_call.run_id, v_call.metadata::jsonb
                );
                if p_snapshots[v_call.number] <> '' then
                    insert into {schema}.snapshots (thread_id, checkpoint_ns, seq, recorded_at, body)
                    values (v_thread_id, v_call.checkpoint_ns, v_seq, v_at, p_snapshots[v_call.number]);
                end if;
            end if;
        end loop;

        if v_seq > v_stream.seq then
            update {schema}.streams as s
            set
                seq = v_seq,
                updated_at = v_at,
                digest = v_digest,
                xid = v_xid,
                latest_checkpoint_id = v_latest_id,
                written_through = v_written_id,
                active_at = v_at
            where s.thread_id = v_thread_id and s.checkpoint_ns = v_key.checkpoint_ns;
        end if;
    end loop;

    -- One insert for each table is faster; on Citus, a statement must name its thread.
    if p_thread_id is null then
        insert into {schema}.events
            (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, state_digest, digest, body)
        select
            d.thread_id, d.checkpoint_ns, d.seq, d.at, v_xid, d.kind, d.checkpoint_id, d.base_seq,
            p_state_digests[d.number], d.digest, p_bodies[d.number]
        from unnest(v_done) with ordinality as d
        order by d.ordinality;

        insert into {schema}.checkpoints
            (
                thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id,
                keyframe_seq, keyframe_at, state_bytes, run_id, metadata
            )
        select
            d.thread_id, d.checkpoint_ns, d.checkpoint_id, d.seq, d.at, d.at, d.parent_id,
            case when d.is_keyframe then d.seq else d.keyframe_seq end,
            case when d.is_keyframe then d.at else d.keyframe_at end, d.state_bytes, d.run_id, d.metadata::jsonb
        from unnest(v_done) as d
        where d.kind = 1;

        insert into {schema}.snapshots (thread_id, checkpoint_ns, seq, recorded_at, body)
        select d.thread_id, d.checkpoint_ns, d.seq, d.at, p_snapshots[d.number]
        from unnest(v_done) as d
        where p_snapshots[d.number] <> '';
    end if;

    return query
    select d.number, 'ok', d.seq, d.at, d.epoch, d.digest from unnest(v_done) as d;
end
$function$;
