-- Erases a thread: its events, snapshots and projection rows. Every stream keeps its number and its chain, and gets a
-- tombstone: an event that says who erased how much, and nothing of what was there. Returns the number of events
-- erased; a thread that is not there, or erased already, is 0 and no tombstone.
create or replace function {schema}.delete_thread_v1(p_thread_id text) returns bigint
language plpgsql as $function$
declare
    v_stream record;
    v_events bigint;
    v_checkpoints bigint;
    v_through text;
    v_body bytea;
    v_advanced record;
    v_total bigint := 0;
begin
    for v_stream in
        select s.checkpoint_ns, s.erased_through from {schema}.streams as s
        where s.thread_id = p_thread_id
        order by s.checkpoint_ns
        for update
    loop
        select max(e.checkpoint_id) into v_through
        from {schema}.events as e
        where e.thread_id = p_thread_id and e.checkpoint_ns = v_stream.checkpoint_ns and e.kind in (1, 2);
        continue when v_through is null;

        perform set_config('eventlog.erasing', 'on', true);
        delete from {schema}.events as e
        where e.thread_id = p_thread_id and e.checkpoint_ns = v_stream.checkpoint_ns and e.kind in (1, 2);
        get diagnostics v_events = row_count;
        perform set_config('eventlog.erasing', 'off', true);

        delete from {schema}.snapshots as s
        where s.thread_id = p_thread_id and s.checkpoint_ns = v_stream.checkpoint_ns;
        delete from {schema}.checkpoints as c
        where c.thread_id = p_thread_id and c.checkpoint_ns = v_stream.checkpoint_ns;
        get diagnostics v_checkpoints = row_count;

        v_through := greatest(v_through, v_stream.erased_through);
        -- The first byte is the body's format (2: JSON, written by the database).
        v_body := '\x02'::bytea || convert_to(
            jsonb_build_object('by', session_user, 'events', v_events, 'checkpoints', v_checkpoints)::text, 'UTF8'
        );
        select a.* into v_advanced from {schema}.advance_stream_v1(
            p_thread_id, v_stream.checkpoint_ns,
            {schema}.event_leaf_v1(3::smallint, p_thread_id, v_stream.checkpoint_ns, v_through, null, v_body),
            null, null, null, null, true
        ) as a;
        insert into {schema}.events
            (thread_id, checkpoint_ns, seq, recorded_at, kind, checkpoint_id, digest, body)
        values (
            p_thread_id, v_stream.checkpoint_ns, v_advanced.o_seq, v_advanced.o_at, 3, v_through,
            v_advanced.o_digest, v_body
        );
        update {schema}.streams as s
        set latest_checkpoint_id = null, written_through = null, erased_through = v_through
        where s.thread_id = p_thread_id and s.checkpoint_ns = v_stream.checkpoint_ns;
        v_total := v_total + v_events;
    end loop;
    return v_total;
end
$function$;
