-- Starts a generation of the log if the log was restored from elsewhere, or has none yet; returns the newest
-- generation.
--
-- Null for a subscriber, which has transaction ids of another cluster until it takes over.
--
-- The boundary is the greatest restored position. Appends may have continued after the restore and need not wait: the
-- sequence was restored too, so new events have greater positions. Only restored events must be told from new ones. An
-- event was restored if this cluster has not reached its transaction id yet, or if it was inserted (system column xmin)
-- no later than the trigger on its partition was created: a dump creates triggers after the data, and a partition
-- created later has its trigger before its first event. The same holds if it was inserted no later than the newest
-- generation's row, which follows the events when tables and then data are restored one after the other. This reads the
-- log once, without values stored out of line.
create or replace function {schema}.start_generation_v1(out o_generation integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_newest record;
    v_began bigint;
    v_position bigint := 0;
    v_xid xid8;
    v_age integer;
begin
    -- Usually there is nothing to do; that case must not need the right to write.
    select n.* into v_newest from {schema}.newest_generation_v1() as n;
    if v_newest.o_is_restored then
        if {schema}.is_subscriber_v1() then
            return;
        end if;
        lock table {schema}.generations in share row exclusive mode;
        select n.* into v_newest from {schema}.newest_generation_v1() as n;
    end if;
    o_generation := v_newest.o_generation;
    if not v_newest.o_is_restored then
        return;
    end if;

    if v_newest.o_generation > 0 then
        select g.after_position, age(g.xmin) into v_began, v_age
        from {schema}.generations as g
        where g.generation = v_newest.o_generation;
        select greatest(v_began, max(e.position)) into v_position
        from {schema}.events as e
        left join pg_catalog.pg_trigger as t on e.tableoid = t.tgrelid and t.tgname = 'events_not_truncated'
        where
            e.xid >= pg_snapshot_xmax(pg_current_snapshot())
            and e.xid is distinct from pg_current_xact_id_if_assigned()
            or age(e.xmin) >= least(age(t.xmin), v_age);
        select e.xid into v_xid
        from {schema}.events as e
        where e.position > v_began and e.position <= v_position
        order by e.xid desc
        limit 1;
        -- The log was restored without `streams`, or with rows of another time.
        insert into {schema}.rebuilds (started_at)
        select {schema}.clock_v1()
        from {schema}.events as e
        where
            not exists (
                select 1 from {schema}.streams as s
                where s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns
            )
        limit 1
        on conflict ((finished_at is null)) where finished_at is null do nothing;
    end if;
    o_generation := v_newest.o_generation + 1;
    insert into {schema}.generations (generation, started_at, after_position, after_xid, xid)
    values (o_generation, {schema}.clock_v1(), v_position, coalesce(v_xid, '0'), 0);
    -- The row's xmin is known only after the insert; an update in the same transaction does not change it.
    update {schema}.generations as g
    set xid = g.xmin::text::bigint
    where g.generation = o_generation;
end
$function$;
