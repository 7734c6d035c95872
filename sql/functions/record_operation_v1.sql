-- Appends the record of an administrative operation to a stream: who did what, to how much, without the erased content.
--
-- Kinds: 3 all erased, 4 part erased, 5 copied, 6 imported. p_checkpoint_id is the greatest id erased so far; p_as_of,
-- for retention, the time before which everything is void. The caller has locked the stream's row.
--
-- p_details is what else the record says, p_stubs the stubs of the numbers in its "erased" (erased_events_v1).
-- "previous" is the digest of the event before: when the stream ends, its row in `ended` takes it from here. The salt
-- is not copied there, so that the thread's id cannot be guessed from the record's leaf.
create or replace function {schema}.record_operation_v1(
    p_thread_id text, p_checkpoint_ns text, p_kind smallint, p_checkpoint_id text, p_as_of timestamptz,
    p_operation text, p_actor text, p_details jsonb, p_stubs bytea default ''
) returns void
language plpgsql as $function$
declare
    v_before timestamptz;
    v_previous bytea;
    v_salt bytea := uuid_send(gen_random_uuid());
    v_says bytea;
    v_body bytea;
    v_advanced record;
begin
    -- The latest record says it for all of them, as earlier records may be dropped before it.
    select greatest(s.begins_at, p_as_of), s.digest into v_before, v_previous
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
    v_says := convert_to(
        jsonb_strip_nulls(
            p_details
            || jsonb_build_object(
                'operation', p_operation, 'by', session_user, 'actor', p_actor, 'before', v_before,
                'previous', encode(v_previous, 'hex'), 'salt', encode(v_salt, 'hex')
            )
        )::text,
        'UTF8'
    );
    -- The first byte is the body's format (2: JSON and stubs, written by the database).
    v_body := '\x02'::bytea || int4send(octet_length(v_says)) || v_says || p_stubs;
    select a.* into v_advanced from {schema}.advance_stream_v1(
        p_thread_id, p_checkpoint_ns,
        {schema}.event_leaf_v1(p_kind, p_thread_id, p_checkpoint_ns, p_checkpoint_id, null, sha256(sha256(v_body))),
        null, null, null, null, null, true
    ) as a;
    insert into {schema}.events
        (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, as_of, digest, body)
    values (
        p_thread_id, p_checkpoint_ns, v_advanced.o_seq, v_advanced.o_at, v_advanced.o_xid, p_kind,
        p_checkpoint_id, v_before, v_advanced.o_digest, v_body
    );
end
$function$;
