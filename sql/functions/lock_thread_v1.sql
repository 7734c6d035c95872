-- Locks the rows of a thread's streams until the transaction ends, the root's first; returns their namespaces.
--
-- For operations on one thread: on Citus it runs on the thread's node as the same user as they do, so that they do not
-- wait for its locks.
create or replace function {schema}.lock_thread_v1(p_thread_id text) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_locked text[];
begin
    select array_agg(o.checkpoint_ns order by o.checkpoint_ns) into v_locked
    from (
        select s.checkpoint_ns from {schema}.streams as s
        where s.thread_id = p_thread_id
        order by s.checkpoint_ns
        for update
    ) as o;
    return coalesce(v_locked, array[]::text[]);
end
$function$;
