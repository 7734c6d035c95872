-- The function of a replica's triggers on `events`, `seals` and `partitions`. What is replicated comes under another
-- role, and past them.
create or replace function {schema}.refuse_append_v1() returns trigger
language plpgsql as $function$
begin
    raise exception 'the log is a replica of another one, and has not taken over'
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Append to the log that it is a replica of. Should that one be gone: take_over().';
end
$function$;

-- The function of the trigger on `partitions` of a replica, for what is replicated: a row comes before the first event
-- that needs the partition, and says when the partition was dropped. PostgreSQL replicates no such commands.
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

-- Makes the log ready to receive another one by logical replication: from now on it takes no other events, until
-- take_over_v1. Nothing to do where it is a replica. Partitions and generations come from the other log.
create or replace function {schema}.make_replica_v1() returns void
language plpgsql as $function$
declare
    v_name text;
begin
    -- In an order in which those who append, and those who make partitions, take them too.
    lock table {schema}.partitions, {schema}.streams, {schema}.events in access exclusive mode;
    if {schema}.is_replica_v1() then
        return;
    end if;
    if
        exists (select from {schema}.events)
        or exists (select from {schema}.seals)
        or exists (select from {schema}.partitions as p where p.dropped_at is not null)
    then
        raise exception 'the log has a history of its own, and cannot become a replica of another one'
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Set up an empty log for it, in a database or a schema of its own.';
    end if;
    for v_name in select p.name from {schema}.partitions as p loop
        execute format('drop table {schema}.%I', v_name);
    end loop;
    delete from {schema}.partitions;
    delete from {schema}.generations;
    create trigger events_from_elsewhere before insert on {schema}.events
    for each row execute function {schema}.refuse_append_v1();
    -- A seal of its own would have the number of the other log's next one, and what is replicated would stop there. A
    -- partition that is dropped here is missed by what the other log has in it.
    create trigger seals_from_elsewhere before insert on {schema}.seals
    for each row execute function {schema}.refuse_append_v1();
    create trigger partitions_not_from_here before insert or update on {schema}.partitions
    for each row execute function {schema}.refuse_append_v1();
    create trigger partitions_from_elsewhere before insert or update on {schema}.partitions
    for each row execute function {schema}.follow_partition_v1();
    alter table {schema}.partitions enable replica trigger partitions_from_elsewhere;
end
$function$;
