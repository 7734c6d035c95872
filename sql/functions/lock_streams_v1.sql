-- Locks the rows of threads' streams until the transaction ends, the root's first, as every append and operation does.
-- A function, because locking a row takes the right to change it.
create or replace function {schema}.lock_streams_v1(p_thread_ids text[])
returns table (o_thread_id text, o_checkpoint_ns text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_thread_id text;
begin
    -- Thread by thread: on Citus, a statement that locks rows must name one thread.
    for v_thread_id in
        select distinct t.thread_id collate "C" from unnest(p_thread_ids) as t (thread_id) order by 1
    loop
        return query
        select s.thread_id, s.checkpoint_ns
        from {schema}.streams as s
        where s.thread_id = v_thread_id
        order by s.checkpoint_ns
        for update;
    end loop;
end
$function$;
