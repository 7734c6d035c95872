-- Makes the partitions of `events` that cover p_at and the p_ahead intervals ('day', 'week' or 'month', UTC) after it.
-- Returns the names of those it made. An interval that a partition covers in part (the setting was changed) is
-- filled up. A partition is made as a table of its own and then attached, which, unlike CREATE … PARTITION OF, does
-- not keep appends waiting.
create or replace function {schema}.ensure_partitions_v1(p_at timestamptz, p_ahead integer, p_interval text)
returns setof text
language plpgsql as $function$
declare
    v_start timestamptz;
    v_end timestamptz;
    v_next timestamptz := date_trunc(p_interval, p_at, 'UTC');
    v_last timestamptz;
    v_covered timestamptz;
    v_name text;
    v_making bigint := (
        select hashtextextended('eventlog:' || n.nspname || ':partitions', 0)
        from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where c.oid = '{schema}.partitions'::regclass
    );
begin
    -- Nothing to do is the usual case, and must not ask for the right to make tables.
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
        -- Whoever made them may be about to end: a commit can be seen a moment before others hear that `events` has
        -- partitions that they do not know, and an append would still find none. Its locks go last, so wait for one,
        -- of a kind that needs no rights.
        perform pg_advisory_xact_lock_shared(v_making);
        return;
    end if;

    lock table {schema}.partitions in share row exclusive mode;
    perform pg_advisory_xact_lock(v_making);
    for v_step in 0 .. p_ahead loop
        v_start := v_next;
        -- Months differ in length: add on the UTC calendar, whatever the session's time zone.
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
            execute format(
                'create table {schema}.%I (like {schema}.events including defaults including storage) '
                -- No row changes any more: whatever vacuum sees, it may freeze at once, and has not to come back for that.
                || 'with (autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0)', v_name
            );
            -- Made by a member of the owner's role, it would be the member's, and the owner could not drop it.
            execute format(
                'alter table {schema}.%I owner to %s', v_name,
                (
                    select c.relowner::regrole from pg_catalog.pg_class as c
                    where c.oid = '{schema}.events'::regclass
                )
            );
            execute format(
                'alter table {schema}.events attach partition {schema}.%I for values from (%L) to (%L)',
                v_name, v_start, v_end
            );
            -- Unlike row triggers, a statement trigger of the parent does not fire for its partitions.
            execute format(
                'create trigger events_not_truncated before truncate on {schema}.%I '
                || 'for each statement execute function {schema}.refuse_change()', v_name
            );
            insert into {schema}.partitions as p (name, starts_at, ends_at) values (v_name, v_start, v_end)
            on conflict (name) do update set
            starts_at = excluded.starts_at, ends_at = excluded.ends_at, dropped_at = null, dropped_by = null,
            dropped_rows = null, dropped_bytes = null, actor = null;
            return next v_name;
            v_start := v_end;
        end loop;
    end loop;
end
$function$;
