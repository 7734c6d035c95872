-- True if the log is a subscriber: it receives another log's events by logical replication and refuses others
-- (make_subscriber_v1, take_over_v1).
create or replace function {schema}.is_subscriber_v1() returns boolean
language sql stable as $function$
    select exists (
        select from pg_catalog.pg_trigger as t
        where t.tgrelid = '{schema}.events'::regclass::oid and t.tgname = 'events_from_elsewhere'
    )
$function$;
