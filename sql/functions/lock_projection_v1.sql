-- Locks a custom projection until the transaction ends; false, without waiting, if another session holds it.
create or replace function {schema}.lock_projection_v1(p_name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
begin
    perform 1 from {schema}.projections as p
    where p.name = p_name
    for update skip locked;
    if found then
        return true;
    end if;
    -- A new projection has no row yet: sessions that start one take turns.
    perform 1 from {schema}.projections as p where p.name = p_name;
    if found then
        return false;
    end if;
    perform 1 from {schema}.locks as l
    where l.name = 'projection'
    for no key update skip locked;
    if not found then
        return false;
    end if;
    perform 1 from {schema}.projections as p where p.name = p_name;
    return not found;
end
$function$;
