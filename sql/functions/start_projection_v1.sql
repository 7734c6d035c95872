-- Sets a custom projection to the beginning of the feed and deletes the events that it has set aside. The caller has
-- locked the projection.
create or replace function {schema}.start_projection_v1(
    p_name text, p_version integer, p_source text, p_tables text[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_now timestamptz := {schema}.clock_v1();
begin
    delete from {schema}.set_aside as s where s.projection = p_name;
    insert into {schema}.projections as p (name, version, source, started_at, tables)
    values (p_name, p_version, p_source, v_now, p_tables)
    on conflict (name) do update set
        version = excluded.version, source = excluded.source, generation = null, xid = null, position = null, cursor = null,
        events = 0, started_at = excluded.started_at, applied_at = null, caught_up_at = null,
        tables = excluded.tables;
end
$function$;
