-- Makes every function of the log known to all nodes of a Citus cluster, and those on one thread run on its node.
--
-- Repeats nothing: setup() calls it after each change of a function. p_delegated are the functions on one thread, whose
-- parameter p_thread_id chooses the node. Citus cannot plan a statement for parameters that it does not know yet, so
-- functions plan for each call. (dynamic statements: Citus's functions exist only there)
create or replace function {schema}.distribute_functions_v1(p_delegated text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
    v_function record;
begin
    perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
    for v_function in
        select p.oid::regprocedure::text as signature, p.proname::text as name
        from pg_proc as p
        where p.pronamespace = '{schema}'::regnamespace and 'plan_cache_mode=force_generic_plan' = any(p.proconfig)
    loop
        execute format('alter function %s reset plan_cache_mode', v_function.signature);
    end loop;
    for v_function in
        execute
            $query$
            select p.oid::regprocedure as signature, p.proname = any($1) as is_delegated
            from pg_proc as p
            left join pg_dist_object as o on o.classid = 'pg_proc'::regclass and p.oid = o.objid
            where
                p.pronamespace = '{schema}'::regnamespace and p.prorettype <> 'trigger'::regtype
                and (o.objid is null or p.proname = any($1) and o.distribution_argument_index is null)
            order by p.proname
            $query$
        using p_delegated
    loop
        if v_function.is_delegated then
            -- Also in transactions: an event's transaction id and position are those of its node, and projections read
            -- the feed in the transaction that changes their view.
            execute
                'select create_distributed_function($1, ''p_thread_id'', colocate_with => ''{schema}.streams'', '
                'force_delegation => true)'
            using v_function.signature;
        else
            execute 'select create_distributed_function($1)' using v_function.signature;
        end if;
    end loop;
end
$function$;
