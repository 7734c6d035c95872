-- Sets a projection to the beginning of the feed. The caller has locked it.
create or replace function {schema}.start_projection_v1(p_name text, p_version integer, p_source text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_now timestamptz := {schema}.clock_v1();
begin
    insert into {schema}.projections as p (name, version, source, started_at)
    values (p_name, p_version, p_source, v_now)
    on conflict (name) do update set
        version = excluded.version, source = excluded.source, generation = null, xid = null, position = null, events = 0,
        started_at = excluded.started_at, applied_at = null, caught_up_at = null;
end
$function$;
