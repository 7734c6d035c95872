-- Sets aside an event that a custom projection could not apply, or notes that it failed again. The caller has locked
-- the projection.
create or replace function {schema}.set_aside_v1(
    p_name text, p_thread_id text, p_checkpoint_ns text, p_seq bigint, p_generation integer, p_xid xid8,
    p_position bigint, p_is_replay boolean, p_error text, p_cursor text
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_now timestamptz := {schema}.clock_v1();
begin
    insert into {schema}.set_aside as s (
        projection, thread_id, checkpoint_ns, seq, generation, xid, position, is_replay, error, set_aside_at, cursor
    ) values (
        p_name, p_thread_id, p_checkpoint_ns, p_seq, p_generation, p_xid, p_position, p_is_replay, p_error, v_now, p_cursor
    )
    on conflict (projection, thread_id, checkpoint_ns, seq) do update set
        -- An event that was set aside before it was relocated was never applied.
        is_replay = s.is_replay and excluded.is_replay,
        error = excluded.error, set_aside_at = excluded.set_aside_at;
end
$function$;
