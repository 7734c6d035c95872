-- Drops a partition of the log after checking that no stream needs it; o_dropped is false if it was dropped before.
--
-- The check is part of the same transaction: an 'object_in_use' error names a thread that has events in the partition
-- which retention has not dealt with. Streams of which only records are left, all of them in this partition, end with
-- it and leave a row in `ended`. The steps that block appends come last: detaching locks the whole log while the
-- catalogue changes. A short lock_timeout keeps the wait for that lock from blocking appends too. p_archive is the
-- sha256 of the file to which the events were archived, if they were.
create or replace function {schema}.drop_partition_v1(
    p_name text, p_actor text, p_archive bytea default null,
    out o_dropped boolean, out o_rows bigint, out o_bytes bigint
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $function$
declare
    v_ends_at timestamptz;
    v_looked_at xid8;
    v_threads text[];
    v_namespaces text[];
    v_late bigint;
    v_is_late boolean;
    v_ended text[];
    v_ended_ns text[];
    v_ends bigint;
    v_thread_id text;
    v_is_lost boolean;
    v_dropped_at timestamptz;
begin
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
    -- lock.
    v_looked_at := pg_snapshot_xmin(pg_current_snapshot());
    execute format(
        $query$
        select array_agg(d.thread_id), array_agg(d.checkpoint_ns), coalesce(sum(d.events), 0), coalesce(sum(d.late), 0)
        from (
            select
                e.thread_id, e.checkpoint_ns, count(*) as events, count(*) filter (where e.xid >= $1) as late
            from {schema}.%I as e
            group by e.thread_id, e.checkpoint_ns
        ) as d
        $query$, p_name
    ) into v_threads, v_namespaces, o_rows, v_late using v_looked_at;

    -- Streams end with this partition if only records are left of them, all in it. Lock them before the check, so that
    -- none is appended to between the check and its end.
    select array_agg(o.thread_id), array_agg(o.checkpoint_ns) into v_ended, v_ended_ns
    from (
        select s.thread_id, s.checkpoint_ns
        from unnest(v_threads, v_namespaces) as d (thread_id, checkpoint_ns)
        inner join {schema}.streams as s on d.thread_id = s.thread_id and d.checkpoint_ns = s.checkpoint_ns
        where s.updated_at < v_ends_at and s.latest_checkpoint_id is null and s.written_through is null
        for update of s
    ) as o;
    select d.thread_id, s.thread_id is null into v_thread_id, v_is_lost
    from unnest(v_threads, v_namespaces) as d (thread_id, checkpoint_ns)
    left join {schema}.streams as s on d.thread_id = s.thread_id and d.checkpoint_ns = s.checkpoint_ns
    where
        s.thread_id is null
        or (s.begins_at is null or s.begins_at < v_ends_at)
        and (s.latest_checkpoint_id is not null or s.written_through is not null)
    order by s.thread_id is null desc
    limit 1;
    if v_is_lost then
        raise exception
            'thread % has events in partition % and no row in "streams": run rebuild() first', v_thread_id, p_name
            using errcode = 'data_corrupted';
    elsif v_thread_id is not null then
        raise exception 'thread % still needs partition %', v_thread_id, p_name using errcode = 'object_in_use';
    end if;
    execute format('lock table {schema}.%I in share mode', p_name);
    execute format('select count(*) <> $2 from {schema}.%I as e where e.xid >= $1', p_name)
    into v_is_late using v_looked_at, v_late;
    if v_is_late then
        raise exception 'partition % got an event during the check: try again', p_name using errcode = 'object_in_use';
    end if;
    -- Later than the last seal, even if the clock went back.
    select greatest({schema}.clock_v1(), max(s.sealed_at) + interval '1 microsecond') into v_dropped_at
    from {schema}.seals as s;
    -- Once its events are dropped, only this row supports what seals say of an ended stream.
    perform set_config('eventlog.erasing', 'on', true);
    with gone as (
        delete from {schema}.streams as s
        using unnest(v_ended, v_ended_ns) as d (thread_id, checkpoint_ns)
        where s.thread_id = d.thread_id and s.checkpoint_ns = d.checkpoint_ns
        returning s.thread_id, s.checkpoint_ns, s.name, s.seq, s.digest, s.updated_at
    )

    insert into {schema}.ended (stream, seq, digest, ended_at, partition, recorded_at, previous, leaf, record)
    select
        g.name, g.seq, g.digest, v_dropped_at, p_name, e.recorded_at, decode(r.details ->> 'previous', 'hex'),
        {schema}.stored_leaf_v1(
            e.kind, e.thread_id, e.checkpoint_ns, e.checkpoint_id, e.base_seq,
            e.state_digest, e.origin_base_seq, e.origin_body_digest, e.body
        ),
        (
            select jsonb_object_agg(d.key, d.value)
            from jsonb_each(r.details) as d
            where d.key in ('operation', 'by', 'actor', 'before', 'events', 'checkpoints', 'bytes', 'records', 'lost')
        )
    from gone as g
    inner join {schema}.events as e
        on
            g.thread_id = e.thread_id and g.checkpoint_ns = e.checkpoint_ns and g.seq = e.seq
            and g.updated_at = e.recorded_at and e.kind > 2
    cross join lateral (
        select {schema}.record_details_v1(e.body) as details
    ) as r;
    get diagnostics v_ends = row_count;
    if v_ends <> coalesce(cardinality(v_ended), 0) then
        raise exception 'streams that end with partition % lack the record of their end: run rebuild() first', p_name
            using errcode = 'data_corrupted';
    end if;
    perform set_config('eventlog.erasing', 'off', true);
    o_bytes := pg_total_relation_size(format('{schema}.%I', p_name)::regclass);

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
