-- Trigger function on a subscriber's `partitions`: creates and drops the partitions that the replicated log creates and
-- drops.
--
-- PostgreSQL does not replicate these commands. But a row of `partitions` arrives before the first event that needs the
-- partition, and says when the partition was dropped.
create or replace function {schema}.follow_partition_v1() returns trigger
language plpgsql as $function$
declare
    v_is_there boolean := exists (
        select from pg_catalog.pg_class as c
        where c.relname = new.name and c.relnamespace = '{schema}'::regnamespace
    );
begin
    if new.dropped_at is null and not v_is_there then
        perform {schema}.make_partition_v1(new.name, new.starts_at, new.ends_at);
    elsif new.dropped_at is not null and v_is_there then
        execute format('alter table {schema}.events detach partition {schema}.%I', new.name);
        execute format('drop table {schema}.%I', new.name);
    end if;
    return new;
end
$function$;
