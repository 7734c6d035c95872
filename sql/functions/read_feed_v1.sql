-- Reads the next events of a generation of the feed after a cursor, and what a reader must know of the generation.
--
-- Returns at most p_rows events, and no more than begin within p_bytes of bodies. p_threads: only events of these
-- threads; null: of all. The first row has no event but describes the generation. Then comes a row for each event that
-- was looked at; a void event, or one of another thread, comes without its body. o_found is how many rows there would
-- be without p_bytes.
--
-- On a distributed log there are no further rows: each node has a part of the feed, which `read_node_feed_v1` reads,
-- and o_keys has a key for each node.
--
-- An event is settled, and may be returned, if its transaction id is below those of all running transactions, or if a
-- later generation exists. The function is stable, so this gate and the events come from one snapshot. Events must come
-- from each partition's index in its order, however few rows the planner expects: a page is a small part of the table.
-- So the settings leave the planner no other plan, and it plans once per session: a plan for 36 partitions takes longer
-- than looking for new events.
create or replace function {schema}.read_feed_v1(
    p_generation integer, p_xid xid8, p_position bigint, p_rows bigint, p_bytes bigint, p_threads text[]
) returns table (
    o_newest integer, o_is_restored boolean, o_is_known boolean, o_last_position bigint, o_last_xid xid8, o_xmax xid8,
    o_is_standby boolean, o_begins bigint, o_xmin xid8, o_node bigint, o_keys text[],
    o_found bigint, o_is_wanted boolean, o_xid xid8, o_position bigint, o_thread_id text, o_checkpoint_ns text,
    o_seq bigint, o_recorded_at timestamptz, o_kind smallint, o_checkpoint_id text, o_base_seq bigint,
    o_as_of timestamptz, o_digest bytea, o_body bytea
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
as $function$
declare
    v_begins bigint;
    v_ends bigint;
    v_gate xid8;
begin
    select n.o_generation, n.o_is_restored into o_newest, o_is_restored
    from {schema}.newest_generation_v1() as n;
    select g.after_position into v_begins
    from {schema}.generations as g
    where g.generation = p_generation;
    o_is_known := found;
    select g.after_position, g.after_xid into o_last_position, o_last_xid
    from {schema}.generations as g
    where g.generation = p_generation + 1;
    v_gate := case
        when o_last_position is null then pg_snapshot_xmin(pg_current_snapshot()) else '18446744073709551615'::xid8
    end;
    v_ends := coalesce(o_last_position, 9223372036854775807);
    o_xmax := pg_snapshot_xmax(pg_current_snapshot());
    o_is_standby := pg_is_in_recovery();
    o_begins := v_begins;
    o_xmin := pg_snapshot_xmin(pg_current_snapshot());
    o_keys := {schema}.feed_keys_v1(p_threads);
    if o_keys is not null then
        select l.groupid into o_node from pg_dist_local_group as l;
        return next;
        return;
    end if;
    return next;
    if o_is_restored or not o_is_known then
        return;
    end if;

    return query
    with page as (
        select e.*
        from {schema}.events as e
        where
            (e.xid, e.position) > (p_xid, p_position) and e.xid < v_gate
            and e.position > v_begins and e.position <= v_ends
        order by e.xid, e.position
        limit p_rows
    ),

    chosen as (
        select
            p.*,
            (p_threads is null or p.thread_id = any(p_threads))
            -- A subquery: a join might lose the order.
            and p.recorded_at >= coalesce(
                (
                    select s.begins_at from {schema}.streams as s
                    where s.thread_id = p.thread_id and s.checkpoint_ns = p.checkpoint_ns
                ),
                '-infinity'
            ) as is_wanted
        from page as p
    ),

    weighed as (
        select
            c.*,
            count(*) over () as found,
            sum(octet_length(c.body)) filter (where c.is_wanted) over (
                order by c.xid, c.position rows between unbounded preceding and 1 preceding
            ) as bytes_before
        from chosen as c
    )

    select
        null::integer, null::boolean, null::boolean, null::bigint, null::xid8, null::xid8, null::boolean,
        null::bigint, null::xid8, null::bigint, null::text[],
        w.found, w.is_wanted, w.xid, w.position, w.thread_id, w.checkpoint_ns, w.seq, w.recorded_at, w.kind::smallint,
        w.checkpoint_id, w.base_seq, w.as_of, w.digest, case when w.is_wanted then w.body end
    from weighed as w
    where coalesce(w.bytes_before, 0) < p_bytes;
end
$function$;
