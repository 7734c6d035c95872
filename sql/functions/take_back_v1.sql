-- Deletes an event from `set_aside`: it was applied, or does not exist any more. The caller has locked the projection.
create or replace function {schema}.take_back_v1(
    p_name text, p_thread_id text, p_checkpoint_ns text, p_seq bigint
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
begin
    delete from {schema}.set_aside as s
    where
        s.projection = p_name and s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns and s.seq = p_seq;
end
$function$;
