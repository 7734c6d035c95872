-- Makes every function of the log known to all nodes of a Citus cluster, and those on one thread run on its node.
--
-- Repeats nothing: setup() calls it after each change of a function. p_delegated are the functions on one thread:
-- their parameter p_thread_id chooses the node. (dynamic statements: Citus's functions exist only there)
--
-- They do so in a transaction of the caller's too: an event's transaction id and position are those of its node, and
-- projections read the feed in the transaction that changes their view. Citus then demands that each statement is about
-- p_thread_id, and takes the same value with another collation for another thread. So clients of functions with joins
-- pass it with the collation of the columns.
--
-- Functions plan for each call: Citus cannot plan a join for parameters that it does not know yet. Other generic plans
-- it keeps, but Citus 13.2 adds a plan to them at each execution: a session would grow by 100 KB with each append
-- (https://github.com/citusdata/citus/pull/8824). And planning for known times is faster, as it leaves partitions out.
-- Helpers, which have no settings of their own, have their caller's.
create or replace function {schema}.distribute_functions_v1(p_delegated text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
    v_function record;
begin
    perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
    for v_function in
        select p.oid::regprocedure::text as signature, p.proname::text as name
        from pg_proc as p
        where
            p.pronamespace = '{schema}'::regnamespace and p.prorettype <> 'trigger'::regtype
            and p.proconfig is not null and not 'plan_cache_mode=force_custom_plan' = any(p.proconfig)
    loop
        execute format('alter function %s set plan_cache_mode = force_custom_plan', v_function.signature);
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
            execute
                $query$
                select create_distributed_function(
                    $1, 'p_thread_id', colocate_with => '{schema}.streams', force_delegation => true
                )
                $query$
            using v_function.signature;
        else
            execute 'select create_distributed_function($1)' using v_function.signature;
        end if;
    end loop;
end
$function$;
