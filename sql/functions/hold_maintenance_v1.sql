-- Makes a worker the one that maintains the log for p_seconds (0: releases it), locked until the transaction ends.
--
-- Returns null if the worker has it now; else the name of the worker that holds it, or '' if that one has only just
-- begun. Not an advisory lock: any user who can connect may take one, and could stop all erasing. A time as well as a
-- lock, because a worker has many transactions and, behind a pooler, no session of its own.
create or replace function {schema}.hold_maintenance_v1(p_worker text, p_seconds integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_now timestamptz := {schema}.clock_v1();
    v_until timestamptz := v_now + make_interval(secs => p_seconds);
begin
    if p_seconds not between 0 and 600 then
        raise exception 'a worker holds maintenance for 0 to 600 seconds, not %', p_seconds
            using errcode = 'invalid_parameter_value';
    end if;
    -- A time further ahead was set by a wrong clock.
    perform 1 from {schema}.locks as l
    where
        l.name = 'maintain'
        and (
            l.held_until is null or l.held_by = p_worker or l.held_until <= v_now
            or l.held_until > v_now + interval '600 seconds'
        )
    for no key update skip locked;
    if not found then
        return coalesce((select l.held_by from {schema}.locks as l where l.name = 'maintain'), '');
    end if;
    update {schema}.locks as l
    set
        held_by = case when p_seconds > 0 then p_worker end,
        held_until = case when p_seconds > 0 then v_until end
    where l.name = 'maintain';
    return null;
end
$function$;
