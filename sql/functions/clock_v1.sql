-- Returns the current time, for everything that the log records or decides by time.
--
-- Tests of months and of jumping clocks replace this function. A setting would do for tests, but every user may change
-- settings. One expression, so that the planner inlines it; qualified, so that no search_path changes its meaning.
create or replace function {schema}.clock_v1() returns timestamptz
language sql volatile parallel safe as $function$
    select pg_catalog.clock_timestamp()
$function$;
