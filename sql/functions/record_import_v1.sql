-- Appends a record to each stream of a thread that this transaction imported: who imported it, and from where.
--
-- Of p_details it takes only "from", where the thread was, and "outline", which tells whether the thread has changed
-- there since. Verification trusts the other keys of a record, so an importer may not set them.
create or replace function {schema}.record_import_v1(
    p_thread_id text, p_actor text, p_details jsonb, out o_events bigint, out o_checkpoints bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_stream record;
    v_checkpoints bigint;
begin
    o_events := 0;
    o_checkpoints := 0;
    for v_stream in
        select s.checkpoint_ns, s.seq from {schema}.streams as s
        where s.thread_id = p_thread_id
        order by s.checkpoint_ns
    loop
        if not {schema}.began_stream_v1(p_thread_id, v_stream.checkpoint_ns) then
            raise exception 'thread % was not imported by this transaction', p_thread_id
                using errcode = 'unique_violation';
        end if;
        select count(*) into v_checkpoints
        from {schema}.checkpoints as c
        where c.thread_id = p_thread_id and c.checkpoint_ns = v_stream.checkpoint_ns;
        perform {schema}.record_operation_v1(
            p_thread_id, v_stream.checkpoint_ns, 6::smallint, '', null, 'import', p_actor,
            jsonb_build_object(
                'from', p_details -> 'from', 'outline', p_details ->> 'outline',
                'events', v_stream.seq, 'checkpoints', v_checkpoints
            )
        );
        o_events := o_events + v_stream.seq;
        o_checkpoints := o_checkpoints + v_checkpoints;
    end loop;
end
$function$;
