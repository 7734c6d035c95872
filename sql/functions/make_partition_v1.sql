-- Creates one partition of `events`: as a table that is then attached, which does not block appends as CREATE …
-- PARTITION OF would.
create or replace function {schema}.make_partition_v1(p_name text, p_starts_at timestamptz, p_ends_at timestamptz)
returns void
language plpgsql as $function$
begin
    -- Its rows will not change: vacuum may freeze them at once and need not come back.
    execute format(
        'create table {schema}.%I (like {schema}.events including defaults including storage including constraints) '
        || 'with (autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0)', p_name
    );
    -- If a member of the owner's role creates it, the member would own it, and the owner could not drop it.
    execute format(
        'alter table {schema}.%I owner to %s', p_name,
        (
            select c.relowner::regrole from pg_catalog.pg_class as c
            where c.oid = '{schema}.events'::regclass
        )
    );
    execute format('alter table {schema}.%I alter column body set statistics 0', p_name);
    execute format(
        'alter table {schema}.events attach partition {schema}.%I for values from (%L) to (%L)',
        p_name, p_starts_at, p_ends_at
    );
    -- Unlike row triggers, a statement trigger of the parent does not fire for its partitions.
    if not {schema}.is_distributed_v1() then
        execute format(
            'create trigger events_not_truncated before truncate on {schema}.%I '
            || 'for each statement execute function {schema}.refuse_change()', p_name
        );
    end if;
end
$function$;
