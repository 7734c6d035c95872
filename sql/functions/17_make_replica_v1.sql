-- The function of the trigger on `events` of a replica. What is replicated comes under another role, and past it.
create or replace function {schema}.refuse_append_v1() returns trigger
language plpgsql as $function$
begin
    raise exception 'the log is a replica of another one, and has not taken over'
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Append to the log that it is a replica of. Should that one be gone: take_over().';
end
$function$;

-- The trigger's function on `partitions` of a replica, for what is replicated. Each side makes its own partitions; that
-- one was dropped, and when, has to be known here too.
create or replace function {schema}.receive_partition_v1() returns trigger
language plpgsql as $function$
begin
    if new.dropped_at is null then
        return null;
    elsif tg_op = 'INSERT' then
        update {schema}.partitions as p
        set
            dropped_at = new.dropped_at, dropped_by = new.dropped_by, dropped_rows = new.dropped_rows,
            dropped_bytes = new.dropped_bytes, actor = new.actor
        where p.name = new.name;
        if found then
            return null;
        end if;
    end if;
    return new;
end
$function$;

-- Makes the log ready to receive another one by logical replication: from now on it takes no other events, until
-- take_over_v1. Nothing to do where it is a replica. The generations come from the other log.
create or replace function {schema}.make_replica_v1() returns void
language plpgsql as $function$
begin
    -- In an order in which those who append, and those who make partitions, take them too.
    lock table {schema}.partitions, {schema}.streams, {schema}.events in share row exclusive mode;
    if {schema}.is_replica_v1() then
        return;
    end if;
    if
        exists (select from {schema}.events)
        or exists (select from {schema}.seals)
        or exists (select from {schema}.ended)
        or exists (select from {schema}.partitions as p where p.dropped_at is not null)
    then
        raise exception 'the log has a history of its own, and cannot become a replica of another one'
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'Set up an empty log for it, in a database or a schema of its own.';
    end if;
    delete from {schema}.generations;
    create trigger events_from_elsewhere before insert on {schema}.events
    for each row execute function {schema}.refuse_append_v1();
    create trigger partitions_from_elsewhere before insert or update on {schema}.partitions
    for each row execute function {schema}.receive_partition_v1();
    alter table {schema}.partitions enable replica trigger partitions_from_elsewhere;
end
$function$;
