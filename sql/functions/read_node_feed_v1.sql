-- Reads the next events of the feed of one node of a Citus cluster, in the parts of `feed_parts_v1`.
--
-- It runs on the node that has p_thread_id. A row without a range describes the node; then come events as in
-- `read_feed_v1`, each with the range of the part that it is the next of; and a row for each range that was looked at,
-- without an event: whether it is at its end.
--
-- Of the parts of a range, one is chosen again and again: that with the oldest next event. So events of a stream come
-- in their order, also if its shard moved from node to node. Events of this node are settled as in `read_feed_v1`.
-- Those of another origin came with the shard, committed; p_origins and p_gates give what is settled there, in case of
-- a transaction that began on that node before the shard moved.
create or replace function {schema}.read_node_feed_v1(
    p_thread_id text, p_begins bigint, p_ends bigint, p_xid xid8, p_position bigint,
    p_lows integer[], p_highs integer[], p_xids xid8[], p_positions bigint[], p_origins bigint[], p_gates xid8[],
    p_rows bigint, p_bytes bigint, p_threads text[], p_turn bigint
) returns table (
    o_node bigint, o_xmin xid8, o_xmax xid8, o_is_standby boolean, o_low integer, o_high integer, o_is_end boolean,
    o_needs bigint,
    o_is_wanted boolean, o_xid xid8, o_position bigint, o_thread_id text, o_checkpoint_ns text,
    o_seq bigint, o_recorded_at timestamptz, o_kind smallint, o_checkpoint_id text, o_base_seq bigint,
    o_as_of timestamptz, o_digest bytea, o_body bytea
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $function$
declare
    v_range record;
    v_event record;
    v_page text;
    v_next text;
    v_positions bigint[];
    v_xids xid8[];
    v_heads timestamptz[];
    v_head timestamptz;
    v_chosen integer;
    v_gate xid8;
    v_bound timestamptz;
    v_found bigint;
    v_left bigint := p_rows;
    v_bytes bigint := 0;
    v_is_full boolean := false;
begin
    if not {schema}.is_distributed_v1() then
        return;
    end if;
    select l.groupid into o_node from pg_dist_local_group as l;
    o_xmin := pg_snapshot_xmin(pg_current_snapshot());
    o_xmax := pg_snapshot_xmax(pg_current_snapshot());
    o_is_standby := pg_is_in_recovery();
    return next;
    if p_rows = 0 then
        return;
    end if;

    for v_range in
        select
            f.o_low as low, f.o_high as high, min(f.o_events) as events, min(f.o_streams) as streams,
            array_agg(f.o_origin order by f.o_is_here, f.o_origin) filter (where f.o_origin is not null) as origins,
            array_agg(f.o_xid order by f.o_is_here, f.o_origin) as xids,
            array_agg(f.o_position order by f.o_is_here, f.o_origin) as positions,
            mod(row_number() over (order by f.o_low) + p_turn, count(*) over ()) as turn
        from {schema}.feed_parts_v1(p_xid, p_position, p_lows, p_highs, p_xids, p_positions, p_threads) as f
        group by f.o_low, f.o_high
        order by turn
    loop
        o_low := v_range.low;
        o_high := v_range.high;
        o_seq := null;
        o_needs := null;
        o_is_end := v_range.origins is null;
        v_xids := v_range.xids;
        v_positions := v_range.positions;
        v_heads := array_fill(null::timestamptz, array[cardinality(v_range.xids)]);
        v_page := format(
            $query$
            select
                c.*, case when c.is_wanted then c.body end as wanted_body
            from (
                select
                    e.*,
                    ($6::text[] is null or e.thread_id = any($6))
                    -- A subquery: a join might lose the order.
                    and e.recorded_at >= coalesce(
                        (
                            select s.begins_at from %s as s
                            where s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns
                        ),
                        '-infinity'
                    ) as is_wanted
                from %s as e
                where
                    e.position >> 48 = $1 and (e.xid, e.position) > ($2, $3) and e.position > $4 and e.position <= $5
                    and e.xid < $7
                order by e.xid, e.position
                limit $8
            ) as c
            $query$,
            v_range.streams, v_range.events
        );
        v_next := format(
            $query$
            select e.recorded_at from %s as e
            where
                e.position >> 48 = $1 and (e.xid, e.position) > ($2, $3) and e.position > $4 and e.position <= $5
            order by e.xid, e.position
            limit 1
            $query$,
            v_range.events
        );
        while not o_is_end and v_left > 0 and not v_is_full loop
            v_chosen := 1;
            v_bound := 'infinity';
            if cardinality(v_range.origins) > 1 or v_range.origins[1] <> o_node then
                for v_number in 1 .. cardinality(v_range.origins) loop
                    if v_heads[v_number] is null then
                        execute v_next into v_head
                        using v_range.origins[v_number], v_xids[v_number], v_positions[v_number], p_begins, p_ends;
                        v_heads[v_number] := coalesce(v_head, 'infinity');
                    end if;
                end loop;
                select h.number, lead(h.head, 1, 'infinity') over (order by h.head, h.number) into v_chosen, v_bound
                from unnest(v_heads) with ordinality as h (head, number)
                order by h.head, h.number
                limit 1;
                if v_heads[v_chosen] = 'infinity' then
                    o_is_end := true;
                    exit;
                end if;
            end if;

            v_gate := case
                when p_ends < 9223372036854775807 then '18446744073709551615'::xid8
                when v_range.origins[v_chosen] = o_node then o_xmin
                else p_gates[array_position(p_origins, v_range.origins[v_chosen])]
            end;
            if v_gate is null then
                o_needs := v_range.origins[v_chosen];
                exit;
            end if;
            v_found := 0;
            for v_event in
                execute v_page
                using
                    v_range.origins[v_chosen], v_xids[v_chosen], v_positions[v_chosen], p_begins, p_ends, p_threads, v_gate,
                    v_left
            loop
                exit when v_event.recorded_at > v_bound;
                if v_bytes >= p_bytes then
                    v_is_full := true;
                    exit;
                end if;
                o_is_wanted := v_event.is_wanted;
                o_xid := v_event.xid;
                o_position := v_event.position;
                o_thread_id := v_event.thread_id;
                o_checkpoint_ns := v_event.checkpoint_ns;
                o_seq := v_event.seq;
                o_recorded_at := v_event.recorded_at;
                o_kind := v_event.kind;
                o_checkpoint_id := v_event.checkpoint_id;
                o_base_seq := v_event.base_seq;
                o_as_of := v_event.as_of;
                o_digest := v_event.digest;
                o_body := v_event.wanted_body;
                return next;
                v_bytes := v_bytes + coalesce(octet_length(o_body), 0);
                v_found := v_found + 1;
                v_xids[v_chosen] := o_xid;
                v_positions[v_chosen] := o_position;
            end loop;
            v_left := v_left - v_found;
            v_heads[v_chosen] := null;
            o_is_end := not v_is_full and v_left > 0 and (v_found = 0 or cardinality(v_range.origins) = 1);
        end loop;
        o_seq := null;
        o_body := null;
        return next;
        exit when v_left = 0 or v_is_full;
    end loop;
end
$function$;
