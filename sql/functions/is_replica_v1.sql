-- Whether the log is a replica: it receives the events of another log by logical replication, and takes no others until
-- it has taken over (make_replica_v1, take_over_v1).
create or replace function {schema}.is_replica_v1() returns boolean
language sql stable as $function$
    select exists (
        select from pg_catalog.pg_trigger as t
        where t.tgrelid = '{schema}.events'::regclass::oid and t.tgname = 'events_from_elsewhere'
    )
$function$;
