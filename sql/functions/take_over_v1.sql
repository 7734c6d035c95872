-- Ends a log's time as a subscriber, so that it takes events again; false if it was no subscriber.
--
-- Positions continue after the replicated ones, and a new generation of the feed begins, as transaction ids now come
-- from this cluster. Refuses while `streams` differs from the log, before rebuild(): streams would hand out numbers
-- that they have used.
create or replace function {schema}.take_over_v1() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
    v_generation integer;
    v_began bigint;
    v_position bigint;
    v_xid xid8;
    v_thread_id text;
begin
    if not {schema}.is_subscriber_v1() then
        return false;
    end if;
    lock table {schema}.partitions, {schema}.streams, {schema}.events in access exclusive mode;
    lock table {schema}.generations in share row exclusive mode;
    select g.generation, g.after_position into v_generation, v_began
    from {schema}.generations as g
    order by g.generation desc
    limit 1;
    if coalesce(v_generation, 0) = 0 then
        raise exception 'the table `generations` was not replicated: add it to the publication'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    select coalesce(e.thread_id, s.thread_id) into v_thread_id
    from (
        select v.thread_id, v.checkpoint_ns, max(v.seq) as seq
        from {schema}.events as v
        group by v.thread_id, v.checkpoint_ns
    ) as e
    full join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
    where e.seq is distinct from s.seq
    limit 1;
    if found then
        raise exception '`streams` differs from the log for thread %: run rebuild() first', v_thread_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;

    select max(e.position) into v_position from {schema}.events as e;
    perform setval(
        pg_get_serial_sequence('{schema}.events', 'position'), coalesce(v_position, 1), v_position is not null
    );
    select e.xid into v_xid
    from {schema}.events as e
    where e.position > v_began
    order by e.xid desc
    limit 1;
    drop trigger events_from_elsewhere on {schema}.events;
    drop trigger seals_from_elsewhere on {schema}.seals;
    drop trigger partitions_not_from_here on {schema}.partitions;
    drop trigger partitions_from_elsewhere on {schema}.partitions;
    insert into {schema}.generations (generation, started_at, after_position, after_xid, xid)
    values (v_generation + 1, {schema}.clock_v1(), coalesce(v_position, 0), coalesce(v_xid, '0'), 0);
    -- As in start_generation_v1: xmin is known only after the insert.
    update {schema}.generations as g
    set xid = g.xmin::text::bigint
    where g.generation = v_generation + 1;
    return true;
end
$function$;
