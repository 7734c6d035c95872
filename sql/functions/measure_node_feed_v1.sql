-- Measures a cursor's distance from the end of the feed of one node of a Citus cluster (`feed_parts_v1`): settled
-- events after it, the time of the oldest, and events that are not settled, both counted up to p_most; and which
-- transaction they wait for.
--
-- It runs on the node that has p_thread_id. p_begins and p_ends are the positions around each generation from the
-- cursor's on.
create or replace function {schema}.measure_node_feed_v1(
    p_thread_id text, p_begins bigint[], p_ends bigint[], p_xid xid8, p_position bigint, p_lows integer[],
    p_highs integer[], p_xids xid8[], p_positions bigint[], p_most bigint
) returns table (
    o_waiting bigint, o_oldest_at timestamptz, o_unsettled bigint, o_xmin xid8,
    o_pid integer, o_user name, o_database name, o_application text, o_state text, o_started_at timestamptz,
    o_query text, o_prepared_as text, o_is_held boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $function$
declare
    v_part record;
    v_count bigint;
    v_at timestamptz;
    v_is_last boolean;
begin
    o_xmin := pg_snapshot_xmin(pg_current_snapshot());
    o_waiting := 0;
    o_unsettled := 0;
    for v_part in
        select f.* from {schema}.feed_parts_v1(p_xid, p_position, p_lows, p_highs, p_xids, p_positions, null) as f
        where f.o_origin is not null
    loop
        for v_number in 1 .. cardinality(p_begins) loop
            v_is_last := v_number = cardinality(p_begins);
            execute format(
                $query$
                select count(*), (array_agg(w.recorded_at))[1]
                from (
                    select e.recorded_at from %s as e
                    where
                        e.position >> 48 = $1 and (e.xid, e.position) > ($2, $3) and e.position > $4
                        and e.position <= $5 and e.xid < $6
                    order by e.xid, e.position
                    limit $7
                ) as w
                $query$,
                v_part.o_events
            )
            into v_count, v_at
            using
                v_part.o_origin, case when v_number = 1 then v_part.o_xid else '0' end,
                case when v_number = 1 then v_part.o_position else 0 end, p_begins[v_number], p_ends[v_number],
                case when v_is_last and v_part.o_is_here then o_xmin else '18446744073709551615'::xid8 end,
                p_most - o_waiting;
            o_waiting := o_waiting + v_count;
            o_oldest_at := least(o_oldest_at, v_at);
        end loop;
        if v_part.o_is_here then
            execute format(
                $query$
                select count(*)
                from (
                    select e.position from %s as e
                    where e.position >> 48 = $1 and e.xid >= $2 and e.position > $3
                    order by e.xid, e.position
                    limit $4
                ) as w
                $query$,
                v_part.o_events
            )
            into v_count
            using v_part.o_origin, o_xmin, p_begins[cardinality(p_begins)], p_most - o_unsettled;
            o_unsettled := o_unsettled + v_count;
        end if;
    end loop;
    select h.* into o_pid, o_user, o_database, o_application, o_state, o_started_at, o_query, o_prepared_as
    from {schema}.feed_holder_v1(o_xmin) as h;
    o_is_held := found or o_xmin < pg_snapshot_xmax(pg_current_snapshot());
    return next;
end
$function$;
