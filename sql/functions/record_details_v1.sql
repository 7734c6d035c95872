-- Returns a record's JSON from its body: a format byte, the length of the JSON in four bytes, the JSON.
create or replace function {schema}.record_details_v1(p_body bytea) returns jsonb
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $function$
    select convert_from(
        substr(p_body, 6, ('x' || encode(substr(p_body, 2, 4), 'hex'))::bit(32)::integer), 'UTF8'
    )::jsonb
$function$;
