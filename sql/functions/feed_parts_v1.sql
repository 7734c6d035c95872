-- Returns the parts of the feed on this node of a Citus cluster, each with a cursor's place in it.
--
-- A part has the events of one shard to which one node gave positions and transaction ids: their origin, the Citus
-- group of that node, is in a position's highest 16 bits. It is 0 for events from before the log was distributed.
-- Events of another origin than this node came with their shard.
--
-- p_xid and p_position are the cursor's place in the parts of origin 0. The arrays are its entries: ranges of hashes of
-- thread ids, and the place in the part of that range and of the position's origin. An entry's range is a shard, or a
-- shard that was split since. p_threads: only shards with these threads; null: all. A range without events comes as one
-- row without an origin.
create or replace function {schema}.feed_parts_v1(
    p_xid xid8, p_position bigint, p_lows integer[], p_highs integer[], p_xids xid8[], p_positions bigint[],
    p_threads text[]
) returns table (
    o_low integer, o_high integer, o_events text, o_streams text, o_origin bigint, o_is_here boolean,
    o_xid xid8, o_position bigint
)
language plpgsql stable
-- Small catalogs: the caller's settings would choose a plan so dear that it would be compiled.
set enable_seqscan = on set enable_sort = on set jit = off
as $function$
declare
    v_here bigint;
    v_shard record;
    v_is_some boolean;
begin
    if not {schema}.is_distributed_v1() then
        return;
    end if;
    select l.groupid into v_here from pg_dist_local_group as l;
    for v_shard in
        select
            e.shardminvalue::integer as low, e.shardmaxvalue::integer as high,
            shard_name(e.logicalrelid, e.shardid)::text as events,
            shard_name(s.logicalrelid, s.shardid)::text as streams
        from pg_dist_shard as e
        inner join pg_dist_placement as p on e.shardid = p.shardid
        inner join pg_dist_shard as s on e.shardminvalue = s.shardminvalue
        where
            e.logicalrelid = '{schema}.events'::regclass and s.logicalrelid = '{schema}.streams'::regclass
            and p.groupid = v_here
            and (
                p_threads is null
                or exists (
                    select from unnest(p_threads) as t (id)
                    where hashtext(t.id) between e.shardminvalue::integer and e.shardmaxvalue::integer
                )
            )
    loop
        o_low := v_shard.low;
        o_high := v_shard.high;
        o_events := v_shard.events;
        o_streams := v_shard.streams;
        o_origin := -1;
        v_is_some := false;
        loop
            -- The next origin, from the index alone.
            execute format(
                'select e.position >> 48 from %s as e where e.position >> 48 > $1 order by e.position >> 48 limit 1',
                o_events
            ) into o_origin using o_origin;
            exit when o_origin is null and v_is_some;
            o_is_here := o_origin = v_here;
            select n.xid, n.position into o_xid, o_position
            from unnest(p_lows, p_highs, p_xids, p_positions) as n (low, high, xid, position)
            where n.low <= o_low and n.high >= o_high and n.position >> 48 = o_origin
            order by n.high::bigint - n.low
            limit 1;
            if not found then
                o_xid := case when o_origin = 0 then p_xid else '0'::xid8 end;
                o_position := case when o_origin = 0 then p_position else 0 end;
            end if;
            return next;
            exit when o_origin is null;
            v_is_some := true;
        end loop;
    end loop;
end
$function$;
