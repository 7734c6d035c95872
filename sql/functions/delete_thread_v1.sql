-- Erases a thread: its events, snapshots and projection rows. Each stream keeps its number and its chain, and gets a
-- tombstone. Returns how many events, checkpoints and bytes were erased; a thread that does not exist, or is already
-- erased, returns 0 and gets no tombstone.
--
-- p_idle_since: do nothing if something was appended since then; o_is_idle tells.
-- p_void_before: leave events recorded before this time to the drop of their partitions. The tombstone says that they
-- are void.
create or replace function {schema}.delete_thread_v1(
    p_thread_id text, p_operation text default 'delete_thread', p_actor text default null,
    p_idle_since timestamptz default null, p_void_before timestamptz default null,
    out o_is_idle boolean, out o_events bigint, out o_checkpoints bigint, out o_bytes bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_stream record;
    -- Variables: with a column among its arguments, a call has the column's collation, and on Citus another p_thread_id.
    v_ns text;
    v_through text;
    v_erased record;
    v_snapshots bigint;
    v_checkpoints bigint;
    v_gone record;
    v_locked text[];
    v_streams integer := 0;
begin
    o_is_idle := true;
    o_events := 0;
    o_checkpoints := 0;
    o_bytes := 0;
    -- Lock all rows before reading anything, the root's first, as appends and other operations do.
    loop
        select array_agg(o.checkpoint_ns) into v_locked
        from (
            select s.checkpoint_ns from {schema}.streams as s
            where s.thread_id = p_thread_id
            order by s.checkpoint_ns
            for update
        ) as o;
        -- Again, if a subgraph's first append was committed while this call waited for the root's row. With that row
        -- locked, no other can follow.
        exit when coalesce(cardinality(v_locked), 0) = v_streams;
        v_streams := coalesce(cardinality(v_locked), 0);
    end loop;
    perform 1 from {schema}.streams as s
    where s.thread_id = p_thread_id and s.active_at >= p_idle_since;
    if found then
        o_is_idle := false;
        return;
    end if;

    for v_stream in
        select s.checkpoint_ns, s.erased_through, s.begins_at from {schema}.streams as s
        where s.thread_id = p_thread_id and s.checkpoint_ns = any(v_locked)
        order by s.checkpoint_ns
    loop
        v_ns := v_stream.checkpoint_ns;
        -- Void events, which retention has cut but not dropped yet, must not outlive the thread.
        if p_void_before is null and v_stream.begins_at is not null then
            perform set_config('eventlog.erasing', 'on', true);
            delete from {schema}.events as e
            where
                e.thread_id = p_thread_id and e.checkpoint_ns = v_ns and e.kind in (1, 2)
                and e.recorded_at < v_stream.begins_at;
            perform set_config('eventlog.erasing', 'off', true);
        end if;

        select
            max(e.checkpoint_id) as through, count(*) as events, sum(octet_length(e.body)) as bytes,
            min(e.recorded_at) as first_at, max(e.recorded_at) as last_at
        into v_erased
        from {schema}.events as e
        where
            e.thread_id = p_thread_id and e.checkpoint_ns = v_ns and e.kind in (1, 2)
            and e.recorded_at >= coalesce(v_stream.begins_at, '-infinity');
        continue when v_erased.events = 0;
        v_through := greatest(v_erased.through, v_stream.erased_through);
        v_gone := {schema}.erased_events_v1(
            p_thread_id, v_ns, null, null, v_erased.first_at, v_erased.last_at, p_void_before, true
        );

        perform set_config('eventlog.erasing', 'on', true);
        delete from {schema}.events as e
        where
            e.thread_id = p_thread_id and e.checkpoint_ns = v_ns and e.kind in (1, 2)
            and e.recorded_at between greatest(v_erased.first_at, p_void_before) and v_erased.last_at;
        perform set_config('eventlog.erasing', 'off', true);

        with gone as (
            delete from {schema}.snapshots as s
            where s.thread_id = p_thread_id and s.checkpoint_ns = v_ns
            returning octet_length(s.body) as bytes
        )

        select coalesce(sum(g.bytes), 0) into v_snapshots from gone as g;
        delete from {schema}.checkpoints as c
        where c.thread_id = p_thread_id and c.checkpoint_ns = v_ns;
        get diagnostics v_checkpoints = row_count;

        perform {schema}.record_operation_v1(
            p_thread_id, v_ns, 3::smallint, v_through, p_void_before, p_operation, p_actor,
            jsonb_build_object(
                'events', v_erased.events, 'checkpoints', v_checkpoints, 'bytes', v_erased.bytes + v_snapshots
            ) || v_gone.o_details,
            v_gone.o_stubs
        );
        update {schema}.streams as s
        set
            latest_checkpoint_id = null, written_through = null, active_at = null,
            erased_through = v_through,
            begins_at = greatest(s.begins_at, p_void_before)
        where s.thread_id = p_thread_id and s.checkpoint_ns = v_ns;
        o_events := o_events + v_erased.events;
        o_checkpoints := o_checkpoints + v_checkpoints;
        o_bytes := o_bytes + v_erased.bytes + v_snapshots;
    end loop;
end
$function$;
