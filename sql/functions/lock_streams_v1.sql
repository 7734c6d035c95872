-- Locks the rows of threads' streams until the transaction ends, the root's first, as every append and every operation
-- does. A function, because locking a row takes the right to change it.
create or replace function {schema}.lock_streams_v1(p_thread_ids text[])
returns table (o_thread_id text, o_checkpoint_ns text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
begin
    return query
    select s.thread_id, s.checkpoint_ns
    from {schema}.streams as s
    where s.thread_id = any(p_thread_ids)
    order by s.thread_id, s.checkpoint_ns
    for update;
end
$function$;
