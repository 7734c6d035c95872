-- What time it is, for all that the log records or decides by time: tests of months and of clocks that jump put another
-- function in its place. A setting would do for them too, but every user may change settings. One expression, so that
-- the planner puts it in the place of the call; with its schema, so that no search_path has a say in it.
create or replace function {schema}.clock_v1() returns timestamptz
language sql volatile parallel safe as $function$
    select pg_catalog.clock_timestamp()
$function$;
