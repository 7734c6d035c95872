-- Creates the missing partitions of `events` that cover p_at and the next p_ahead intervals; returns their names.
--
-- p_interval is 'day', 'week' or 'month', in UTC. An interval that an existing partition covers in part, because the
-- setting was changed, is filled up. A subscriber creates no partitions here: it takes those of the log that it
-- replicates. On a worker of a Citus cluster, the coordinator creates them, in a transaction of its own.
create or replace function {schema}.ensure_partitions_v1(p_at timestamptz, p_ahead integer, p_interval text)
returns setof text
language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
    v_made text[];
    v_start timestamptz;
    v_end timestamptz;
    v_next timestamptz := date_trunc(p_interval, p_at, 'UTC');
    v_last timestamptz;
    v_covered timestamptz;
    v_name text;
begin
    -- Usually no partition is missing; that case must not need the right to create tables.
    v_start := v_next;
    v_end := (
        (v_start at time zone 'UTC') + ((p_ahead + 1) || ' ' || p_interval)::interval
    ) at time zone 'UTC';
    perform 1 from {schema}.partitions as p
    where p.starts_at < v_end and p.ends_at > v_start and p.dropped_at is null
    having
        sum(extract(epoch from least(p.ends_at, v_end)) - extract(epoch from greatest(p.starts_at, v_start)))
        = extract(epoch from v_end) - extract(epoch from v_start);
    if found then
        -- The session that created the partitions may be about to end. Its commit is visible a moment before other
        -- sessions learn of the new partitions, and an append would still find none. Its locks are released last, so
        -- wait for one of them. Then release this lock by undoing the block: if two transactions kept it and next found
        -- a partition missing, each would wait for the other.
        begin
            lock table {schema}.partitions in row exclusive mode;
            raise sqlstate 'EVLOG';
        exception
            when sqlstate 'EVLOG' then return;
        end;
    end if;
    if {schema}.is_subscriber_v1() then
        return;
    end if;

    v_made := {schema}.ask_coordinator_v1(
        format(
            'select coalesce(array_agg(e.made), array[]::text[]) '
            || 'from {schema}.ensure_partitions_v1(%L, %L, %L) as e (made)',
            p_at, p_ahead, p_interval
        )
    );
    if v_made is not null then
        return query select unnest(v_made);
        return;
    end if;

    lock table {schema}.partitions in share row exclusive mode;
    for v_step in 0 .. p_ahead loop
        v_start := v_next;
        -- Months differ in length: add on the UTC calendar, independently of the session's time zone.
        v_last := ((v_start at time zone 'UTC') + ('1 ' || p_interval)::interval) at time zone 'UTC';
        v_next := v_last;
        while v_start < v_last loop
            select max(p.ends_at) into v_covered
            from {schema}.partitions as p
            where p.starts_at <= v_start and p.ends_at > v_start and p.dropped_at is null;
            if v_covered is not null then
                v_start := v_covered;
                continue;
            end if;
            select least(v_last, min(p.starts_at)) into v_end
            from {schema}.partitions as p
            where p.starts_at > v_start and p.dropped_at is null;
            v_name := 'events_' || to_char(v_start at time zone 'UTC', 'YYYYMMDD');
            -- The row of a dropped partition stays as the record of its events, so its name is taken.
            select v_name || case when count(*) > 0 then '_' || count(*) + 1 else '' end into v_name
            from {schema}.partitions as p
            where starts_with(p.name, v_name);
            perform {schema}.make_partition_v1(v_name, v_start, v_end);
            insert into {schema}.partitions (name, starts_at, ends_at, made_at)
            values (v_name, v_start, v_end, {schema}.clock_v1());
            return next v_name;
            v_start := v_end;
        end loop;
    end loop;
end
$function$;
