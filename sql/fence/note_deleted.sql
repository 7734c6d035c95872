-- Notes that threads were deleted from the old tables after they were moved, as the event log still has them. Refuses
-- nothing.
create or replace function {schema}.eventlog_note_deleted()
returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_threads text[];
begin
    select array_agg(distinct g.thread_id) into v_threads
    from gone as g;
    -- The lock that writers take: a thread is either marked before its deletion, which is then noted, or marked after
    -- it. Each lock takes a slot in the server's lock table: for thousands of threads, lock all marks until the
    -- deletion has ended.
    if cardinality(v_threads) <= 1000 then
        perform pg_advisory_xact_lock_shared(hashtextextended(t.thread_id, 5571870121))
        from (
            select u.thread_id from unnest(v_threads) as u (thread_id)
            order by u.thread_id
        ) as t;
    else
        lock table {schema}.moved in share row exclusive mode;
    end if;
    update {schema}.moved as m set deleted_at = clock_timestamp()
    where
        m.thread_id = any(v_threads)
        and not exists (
            select from {schema}.checkpoints as c
            where c.thread_id = m.thread_id
        );
    return null;
end;
$function$;
