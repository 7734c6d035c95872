-- Keeps a partition from being dropped until the transaction ends; false if it was dropped.
create or replace function {schema}.lock_partition_v1(p_name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
begin
    perform 1 from {schema}.partitions as p
    where p.name = p_name and p.dropped_at is null
    for update;
    return found;
end
$function$;
