-- Moves a custom projection's cursor. The caller has locked the projection.
create or replace function {schema}.advance_projection_v1(
    p_name text, p_generation integer, p_xid xid8, p_position bigint, p_events bigint, p_is_end boolean, p_cursor text
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_now timestamptz := {schema}.clock_v1();
begin
    update {schema}.projections as p
    set
        generation = p_generation, xid = p_xid, position = p_position, cursor = p_cursor, events = p.events + p_events, applied_at = v_now,
        caught_up_at = case when p_is_end then coalesce(p.caught_up_at, v_now) else p.caught_up_at end
    where p.name = p_name;
end
$function$;
