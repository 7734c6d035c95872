-- Returns the last settled event of each part of the feed on one node of a Citus cluster (`feed_parts_v1`), or a row
-- without one for a range that has none.
--
-- It runs on the node that has p_thread_id. p_begins: only events with a greater position.
create or replace function {schema}.end_node_feed_v1(p_thread_id text, p_begins bigint) returns table (
    o_low integer, o_high integer, o_xid xid8, o_position bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $function$
declare
    v_part record;
begin
    for v_part in
        select f.* from {schema}.feed_parts_v1('0', 0, null, null, null, null, null) as f
    loop
        o_low := v_part.o_low;
        o_high := v_part.o_high;
        o_xid := null;
        o_position := null;
        if v_part.o_origin is not null then
            execute format(
                $query$
                select e.xid, e.position from %s as e
                where e.position >> 48 = $1 and e.position > $2 and e.xid < $3
                order by e.xid desc, e.position desc
                limit 1
                $query$,
                v_part.o_events
            )
            into o_xid, o_position
            using
                v_part.o_origin, p_begins,
                case
                    when v_part.o_is_here then pg_snapshot_xmin(pg_current_snapshot())
                    else '18446744073709551615'::xid8
                end;
        end if;
        return next;
    end loop;
end
$function$;
