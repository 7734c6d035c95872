-- Makes the log ready to receive another one by logical replication: from now on it takes no other events, until
-- take_over_v1. Nothing to do where it is a replica. Partitions and generations come from the other log.
create or replace function {schema}.make_replica_v1() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $function$
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
