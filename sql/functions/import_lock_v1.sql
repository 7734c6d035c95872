-- Tries to take a thread's import lock until the transaction ends; false if another transaction holds it.
--
-- Imports take it shared before they begin a stream. Deletions take it exclusively, and readers before they conclude
-- that a thread is not in the log: it proves that no import is in progress that would become visible later.
--
-- It never waits, as a wait would hold a transaction snapshot. Callers try again until their own time limit.
create or replace function {schema}.import_lock_v1(p_thread_id text, p_is_exclusive boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_key bigint := hashtextextended('{schema}.' || p_thread_id, 5571870123);
begin
    if p_is_exclusive then
        return pg_try_advisory_xact_lock(v_key);
    end if;
    return pg_try_advisory_xact_lock_shared(v_key);
end
$function$;
