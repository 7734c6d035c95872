-- Deletes a custom projection's cursor and the events that it has set aside; false if there was no cursor. The caller
-- has locked the projection.
create or replace function {schema}.forget_projection_v1(p_name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
begin
    delete from {schema}.set_aside as s where s.projection = p_name;
    delete from {schema}.projections as p where p.name = p_name;
    return found;
end
$function$;
