-- Makes one partition of `events`. It is made as a table of its own and then attached, which, unlike CREATE … PARTITION
-- OF, does not keep appends waiting.
create or replace function {schema}.make_partition_v1(p_name text, p_starts_at timestamptz, p_ends_at timestamptz)
returns void
language plpgsql as $function$
begin
    -- Its rows will not change: whatever vacuum sees, it may freeze at once, and need not come back for that.
    execute format(
        'create table {schema}.%I (like {schema}.events including defaults including storage including constraints) '
        || 'with (autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0)', p_name
    );
    -- Made by a member of the owner's role, it would be the member's, and the owner could not drop it.
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
    execute format(
        'create trigger events_not_truncated before truncate on {schema}.%I '
        || 'for each statement execute function {schema}.refuse_change()', p_name
    );
end
$function$;
