-- Drops a partition of the log after checking that no stream needs it; o_dropped is false if it was dropped before.
--
-- The check is part of the same transaction: an 'object_in_use' error names a thread that has events in the partition
-- which retention has not dealt with. Streams of which only records are left, all of them in this partition, end with
-- it and leave a row in `ended`. The steps that block appends come last: detaching locks the whole log while the
-- catalogue changes. A short lock_timeout keeps the wait for that lock from blocking appends too. p_archive is the
-- sha256 of the file to which the events were archived, if they were.
--
-- On Citus the coordinator runs it, and drops the partition on all nodes in one transaction, or on none.
create or replace function {schema}.drop_partition_v1(
    p_name text, p_actor text, p_archive bytea default null,
    out o_dropped boolean, out o_rows bigint, out o_bytes bigint
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $function$
declare
    v_is_distributed boolean := {schema}.is_distributed_v1();
    v_ends_at timestamptz;
    v_looked_at xid8;
    v_late bigint;
    v_is_late boolean;
    v_thread_id text;
    v_dropped_at timestamptz;
begin
    if v_is_distributed then
        -- One connection to each node, so that it drops what it has read; and no node waits longer for a lock.
        perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
        perform set_config('citus.propagate_set_commands', 'local', true);
        set local lock_timeout = '100ms';
    end if;
    -- No stream may end while the log is being sealed: a seal covers streams that ended before it, not after it. A
    -- sealing session holds this lock exclusively.
    perform 1 from {schema}.locks as l
    where l.name = 'seal'
    for share;
    select p.ends_at into v_ends_at
    from {schema}.partitions as p
    where p.name = p_name and p.dropped_at is null
    for update;
    if not found then
        o_dropped := false;
        return;
    end if;

    -- One scan, without a lock on the partition. The index on xid finds the events that arrive after it, until the
    -- lock. On Citus all events are counted again: each node has transaction ids of its own.
    v_looked_at := case when v_is_distributed then '0' else pg_snapshot_xmin(pg_current_snapshot()) end;
    execute format(
        $query$
        select count(*), count(*) filter (where e.xid >= $1), min(e.thread_id) filter (where s.thread_id is null)
        from {schema}.%I as e
        left join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
        $query$, p_name
    ) into o_rows, v_late, v_thread_id using v_looked_at;
    if v_thread_id is not null then
        raise exception
            'thread % has events in partition % and no row in "streams": run rebuild() first', v_thread_id, p_name
            using errcode = 'data_corrupted';
    end if;

    -- Streams end with this partition if only records are left of them, all in it. Their rows go before the check for
    -- streams that need it, so that nothing is appended to them between the check and their end.
    execute format(
        $query$
        select s.thread_id
        from {schema}.streams as s
        where
            s.updated_at < $1 and s.latest_checkpoint_id is null and s.written_through is null
            and exists (
                select 1 from {schema}.%I as e
                where e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
            )
            and not exists (
                select 1 from {schema}.events as e
                where
                    e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns and e.seq = s.seq
                    and e.recorded_at = s.updated_at and e.kind > 2
            )
        limit 1
        $query$, p_name
    ) into v_thread_id using v_ends_at;
    if v_thread_id is not null then
        raise exception 'streams that end with partition % lack the record of their end: run rebuild() first', p_name
            using errcode = 'data_corrupted';
    end if;
    -- Later than the last seal, even if the clock went back.
    select greatest({schema}.clock_v1(), max(s.sealed_at) + interval '1 microsecond') into v_dropped_at
    from {schema}.seals as s;
    -- Once its events are dropped, only this row supports what seals say of an ended stream.
    perform set_config('eventlog.erasing', 'on', true);
    execute format(
        $query$
        with gone as (
            delete from {schema}.streams as s
            where
                s.updated_at < $1 and s.latest_checkpoint_id is null and s.written_through is null
                and exists (
                    select 1 from {schema}.%I as e
                    where e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
                )
            returning s.thread_id, s.checkpoint_ns, s.name, s.seq, s.digest, s.updated_at
        ),

        records as materialized (
            select
                g.name, g.seq, g.digest, e.recorded_at, {schema}.record_details_v1(e.body) as details,
                {schema}.stored_leaf_v1(
                    e.kind, e.thread_id, e.checkpoint_ns, e.checkpoint_id, e.base_seq,
                    e.state_digest, e.origin_base_seq, e.origin_body_digest, e.body
                ) as leaf
            from gone as g
            inner join {schema}.events as e
                on
                    g.thread_id = e.thread_id and g.checkpoint_ns = e.checkpoint_ns and g.seq = e.seq
                    and g.updated_at = e.recorded_at and e.kind > 2
        )

        insert into {schema}.ended (stream, seq, digest, ended_at, partition, recorded_at, previous, leaf, record)
        select
            r.name, r.seq, r.digest, $2, $3, r.recorded_at, decode(r.details ->> 'previous', 'hex'), r.leaf,
            (
                select jsonb_object_agg(d.key, d.value)
                from jsonb_each(r.details) as d
                where
                    d.key in (
                        'operation', 'by', 'actor', 'before', 'events', 'checkpoints', 'bytes', 'records', 'lost'
                    )
            )
        from records as r
        $query$, p_name
    ) using v_ends_at, v_dropped_at, p_name;
    perform set_config('eventlog.erasing', 'off', true);
    execute format(
        $query$
        select s.thread_id
        from {schema}.streams as s
        where
            (s.begins_at is null or s.begins_at < $1)
            and (s.latest_checkpoint_id is not null or s.written_through is not null)
            and exists (
                select 1 from {schema}.%I as e
                where e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
            )
        limit 1
        $query$, p_name
    ) into v_thread_id using v_ends_at;
    if v_thread_id is not null then
        raise exception 'thread % still needs partition %', v_thread_id, p_name using errcode = 'object_in_use';
    end if;
    execute format('lock table {schema}.%I in share mode', p_name);
    execute format('select count(*) <> $2 from {schema}.%I as e where e.xid >= $1', p_name)
    into v_is_late using v_looked_at, v_late;
    if v_is_late then
        raise exception 'partition % got an event during the check: try again', p_name using errcode = 'object_in_use';
    end if;
    select z.o_bytes into o_bytes
    from {schema}.relation_sizes_v1(array[format('{schema}.%I', p_name)::regclass::oid]) as z;

    update {schema}.partitions as p
    set
        dropped_at = v_dropped_at, dropped_by = session_user, dropped_rows = o_rows, dropped_bytes = o_bytes,
        actor = p_actor, archive = p_archive
    where p.name = p_name;
    execute format('alter table {schema}.events detach partition {schema}.%I', p_name);
    execute format('drop table {schema}.%I', p_name);
    o_dropped := true;
end
$function$;
