-- Stores the retention: when maintenance erases threads and their history; null: never.
--
-- The client validates it. A function, because the right to erase is enough: a role that may erase anything may also
-- decide when.
create or replace function {schema}.set_retention_v1(p_retention jsonb, p_actor text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_now timestamptz := {schema}.clock_v1();
begin
    update {schema}.settings
    set
        retention = p_retention, retention_set_at = v_now, retention_set_by = session_user,
        retention_actor = p_actor;
end
$function$;
