-- On a worker of a Citus cluster, runs a statement on the coordinator as this user, and returns its one value; anywhere
-- else it returns null: the caller goes on itself.
--
-- Only the coordinator creates and drops tables. The statement has a transaction of its own, and is committed when this
-- returns. (dynamic statements: Citus's functions exist only there)
create or replace function {schema}.ask_coordinator_v1(p_statement text) returns text
language plpgsql as $function$
declare
    v_is_worker boolean;
    v_answer record;
begin
    if not {schema}.is_distributed_v1() then
        return null;
    end if;
    execute 'select g.groupid <> 0 from pg_catalog.pg_dist_local_group as g' into v_is_worker;
    if not v_is_worker then
        return null;
    end if;
    execute 'select r.success, r.result from pg_catalog.run_command_on_coordinator($1) as r'
    into v_answer using p_statement;
    if not v_answer.success then
        raise exception 'the coordinator of the Citus cluster did not do what only it can: %', v_answer.result
            using errcode = 'system_error',
            hint = 'See that this node can connect to it as the log''s owner, or connect to the coordinator.';
    end if;
    return v_answer.result;
end
$function$;
