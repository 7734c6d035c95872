-- True if the log is distributed over the nodes of a Citus cluster: its tables have no guard triggers there.
create or replace function {schema}.is_distributed_v1() returns boolean
language sql stable as $function$
    select not exists (
        select from pg_catalog.pg_trigger as t
        where t.tgrelid = '{schema}.events'::regclass::oid and t.tgname = 'events_immutable'
    )
$function$;
