-- Refuses writes to a thread that was moved, or is being moved, to an event log.
create or replace function {schema}.eventlog_refuse_moved()
returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_state text;
    v_moved_to text;
    v_marked_at timestamptz;
begin
    -- A mover takes this lock exclusively before it marks the thread: it waits for earlier writers to commit, and later
    -- writers see its mark.
    perform pg_advisory_xact_lock_shared(hashtextextended(new.thread_id, 5571870121));
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        -- The transaction's snapshot may be older than the mark. A unique index sees every row: if it has a row that
        -- the snapshot misses, the insert ends in a serialization failure.
        insert into {schema}.moved (thread_id, state, moved_to) values (new.thread_id, 'moving', '')
        on conflict (thread_id) do nothing;
        if found then
            delete from {schema}.moved as m where m.thread_id = new.thread_id;
        end if;
    end if;
    select m.state, m.moved_to, m.marked_at into v_state, v_moved_to, v_marked_at
    from {schema}.moved as m
    where m.thread_id = new.thread_id;
    if v_state = 'moving' then
        raise exception using
            errcode = 'object_in_use',
            message = format(
                'thread %L is being moved to %s (since %s): nothing was written', new.thread_id, v_moved_to, v_marked_at
            ),
            hint = 'Try again. If this stays so, the mover died: a MigratingSaver that reads the thread completes the '
            'move, and so does "eventlog fence settle".';
    elsif v_state = 'moved' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format(
                'thread %L was moved to %s (at %s): PostgresSaver cannot write to it any more',
                new.thread_id, v_moved_to, v_marked_at
            ),
            hint = 'Use MigratingSaver or EventLogSaver in this process, or move the thread back with "eventlog export".';
    end if;
    return new;
end;
$function$;
