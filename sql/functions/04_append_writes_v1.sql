-- Appends "writes saved": all the writes of one put_writes call. Their checkpoint need not be there yet.
-- o_status 'ok', or 'erased' (nothing written) when the checkpoint was erased.
create or replace function {schema}.append_writes_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_body bytea,
    out o_status text, out o_seq bigint, out o_at timestamptz
)
language plpgsql as $function$
declare
    v_digest bytea;
begin
    select a.o_status, a.o_seq, a.o_at, a.o_digest
    into o_status, o_seq, o_at, v_digest
    from {schema}.advance_stream_v1(
        p_thread_id, p_checkpoint_ns,
        {schema}.event_leaf_v1(2::smallint, p_thread_id, p_checkpoint_ns, p_checkpoint_id, null, p_body),
        null, p_checkpoint_id, p_checkpoint_id, null, false
    ) as a;
    if o_status = 'ok' then
        insert into {schema}.events
            (thread_id, checkpoint_ns, seq, recorded_at, kind, checkpoint_id, digest, body)
        values (p_thread_id, p_checkpoint_ns, o_seq, o_at, 2, p_checkpoint_id, v_digest, p_body);
    end if;
end
$function$;
