-- Appends several calls on one thread in one transaction, as append_calls_v1: the group commit of a distributed log,
-- where it runs on the thread's node. With p_is_relaxed the commit does not wait for the disk.
create or replace function {schema}.append_thread_v1(
    p_thread_id text, p_calls json, p_state_digests bytea[], p_contents bytea[], p_bodies bytea[], p_snapshots bytea[],
    p_is_relaxed boolean default false
) returns table (
    o_number integer, o_status text, o_seq bigint, o_at timestamptz, o_epoch bigint, o_digest bytea
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $function$
begin
    if p_is_relaxed then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    return query
    select a.o_number, a.o_status, a.o_seq, a.o_at, a.o_epoch, a.o_digest
    from {schema}.append_calls_v1(p_thread_id, p_calls, p_state_digests, p_contents, p_bodies, p_snapshots) as a;
end
$function$;
