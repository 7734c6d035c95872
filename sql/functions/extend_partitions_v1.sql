-- Creates the missing partitions for now and the stored number ahead; returns their names.
--
-- With p_thread_id: those for the thread's next events, where its streams are ahead of the clock. A writer may call it,
-- because neither times nor interval are the caller's to choose. It creates none beyond the year 9998: clients cannot
-- read times after 9999, and an event with such a time would stop every reader of the feed.
create or replace function {schema}.extend_partitions_v1(p_thread_id text) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_settings record;
    v_now timestamptz := {schema}.clock_v1();
    v_at timestamptz;
begin
    select s.partition_interval, s.partitions_ahead into v_settings
    from {schema}.settings as s;
    if p_thread_id is null then
        return query
        select e.made
        from {schema}.ensure_partitions_v1(
            v_now, v_settings.partitions_ahead, v_settings.partition_interval
        ) as e (made);
        return;
    end if;
    for v_at in
        select distinct date_trunc('day', s.updated_at, 'UTC')
        from {schema}.streams as s
        where
            s.thread_id = p_thread_id and s.updated_at > v_now
            and s.updated_at < '9999-01-01 00:00Z'::timestamptz
    loop
        return query
        select e.made
        from {schema}.ensure_partitions_v1(v_at, 0, v_settings.partition_interval) as e (made);
    end loop;
end
$function$;
