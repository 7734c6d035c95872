-- Removes a projection's cursor. False: there was none. The caller has locked it.
create or replace function {schema}.forget_projection_v1(p_name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
begin
    delete from {schema}.projections as p where p.name = p_name;
    return found;
end
$function$;
