-- Prepares an empty log to receive another log by logical replication; until take_over_v1 it refuses other events.
--
-- Does nothing if the log is a subscriber already. Partitions and generations come from the other log.
create or replace function {schema}.make_subscriber_v1() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
    v_name text;
begin
    -- The order in which appends and the creation of partitions lock these tables.
    lock table {schema}.partitions, {schema}.streams, {schema}.events in access exclusive mode;
    if {schema}.is_subscriber_v1() then
        return;
    end if;
    if
        exists (select from {schema}.events)
        or exists (select from {schema}.seals)
        or exists (select from {schema}.partitions as p where p.dropped_at is not null)
    then
        raise exception 'the log has events, seals or dropped partitions of its own, and cannot become a subscriber'
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Set up an empty log for the subscriber, in another database or schema.';
    end if;
    for v_name in select p.name from {schema}.partitions as p loop
        execute format('drop table {schema}.%I', v_name);
    end loop;
    delete from {schema}.partitions;
    delete from {schema}.generations;
    create trigger events_from_elsewhere before insert on {schema}.events
    for each row execute function {schema}.refuse_append_v1();
    -- A seal made here would take the number of the other log's next seal, and replication would stop there. If a
    -- partition were dropped here, the other log's events in it could not be applied.
    create trigger seals_from_elsewhere before insert on {schema}.seals
    for each row execute function {schema}.refuse_append_v1();
    create trigger partitions_not_from_here before insert or update on {schema}.partitions
    for each row execute function {schema}.refuse_append_v1();
    create trigger partitions_from_elsewhere before insert or update on {schema}.partitions
    for each row execute function {schema}.follow_partition_v1();
    alter table {schema}.partitions enable replica trigger partitions_from_elsewhere;
end
$function$;
