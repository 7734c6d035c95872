-- Reads everything that several checkpoints of several streams consist of, for listings of many threads.
--
-- A round trip for each stream took several times as long. Parts as in read_checkpoints_v1, with o_stream: streams are
-- named by their place in p_threads and p_namespaces. p_streams and p_checkpoint_ids have the same length.
-- Times bound each stream's events at run time, and all of them, as literals, at planning time. `order by` makes each
-- lookup an index lookup of its own: the planner would scan and hash tables that it takes for small.
create or replace function {schema}.read_listed_v1(
    p_threads text[], p_namespaces text[], p_streams integer[], p_checkpoint_ids text[]
) returns table (
    o_stream integer, o_part smallint, o_seq bigint, o_other_seq bigint, o_at timestamptz, o_id text,
    o_parent_id text, o_body bytea
)
language plpgsql stable set search_path = pg_catalog, pg_temp as $function$
declare
    v_found record;
    v_ranges record;
begin
    -- One statement reads all that the rest depends on.
    select
        array_agg(w.stream) as streams, array_agg(c.checkpoint_id) as ids, array_agg(c.seq) as seqs,
        array_agg(c.keyframe_seq) as keyframes, array_agg(c.recorded_at) as ats, array_agg(c.keyframe_at) as keyframe_ats,
        array_agg(c.first_at) as first_ats, array_agg(c.parent_checkpoint_id) as parent_ids,
        array_agg(s.begins_at) as begins, array_agg(s.updated_at) as ends,
        array_agg(s.written_through >= c.checkpoint_id) as written
    into v_found
    from unnest(p_streams, p_checkpoint_ids) as w (stream, id)
    cross join lateral (
        select k.*
        from {schema}.checkpoints as k
        where
            k.thread_id = p_threads[w.stream] and k.checkpoint_ns = p_namespaces[w.stream]
            and k.checkpoint_id = w.id
        order by k.checkpoint_id
    ) as c
    cross join lateral (
        select k.begins_at, k.updated_at, k.written_through
        from {schema}.streams as k
        where k.thread_id = c.thread_id and k.checkpoint_ns = c.checkpoint_ns
        order by k.checkpoint_ns
    ) as s;
    if v_found.streams is null then
        return;
    end if;

    return query
    select c.stream, 0::smallint, c.seq, c.keyframe_seq, c.at, c.id::text, c.parent_id::text, null::bytea
    from
        unnest(v_found.streams, v_found.seqs, v_found.keyframes, v_found.ats, v_found.ids, v_found.parent_ids)
            as c (stream, seq, keyframe_seq, at, id, parent_id);

    return query
    select k.stream, 1::smallint, s.seq, null::bigint, s.recorded_at, null::text, null::text, s.body
    from (
        select distinct c.stream, c.keyframe_seq
        from unnest(v_found.streams, v_found.keyframes) as c (stream, keyframe_seq)
    ) as k
    cross join lateral (
        select t.seq, t.recorded_at, t.body
        from {schema}.snapshots as t
        where
            t.thread_id = p_threads[k.stream] and t.checkpoint_ns = p_namespaces[k.stream]
            and t.seq = k.keyframe_seq
        order by t.seq
    ) as s;

    select
        array_agg(r.stream) as streams, array_agg(r.from_seq) as from_seqs, array_agg(r.to_seq) as to_seqs,
        array_agg(r.from_at) as from_ats, array_agg(r.to_at) as to_ats, min(r.from_at) as from_at,
        max(r.to_at) as to_at
    into v_ranges
    from (
        select
            c.stream, min(c.keyframe_seq) as from_seq, max(c.seq) as to_seq,
            -- A relocated keyframe is later than the events that build on it.
            case
                when bool_or(c.keyframe_at > c.at) then coalesce(min(c.begins_at), '-infinity')
                else min(c.keyframe_at)
            end as from_at,
            greatest(max(c.at), max(c.keyframe_at)) as to_at
        from
            unnest(
                v_found.streams, v_found.seqs, v_found.keyframes, v_found.ats, v_found.keyframe_ats, v_found.begins
            ) as c (stream, seq, keyframe_seq, at, keyframe_at, begins_at)
        group by c.stream
    ) as r;
    return query execute format(
        $query$
        select r.stream, 2::smallint, e.seq, e.base_seq, e.recorded_at, null::text, null::text, e.body
        from unnest($3, $4, $5, $6, $7) as r (stream, from_seq, to_seq, from_at, to_at)
        cross join lateral (
            select v.seq, v.base_seq, v.recorded_at, v.body
            from {schema}.events as v
            where
                v.thread_id = $1[r.stream] and v.checkpoint_ns = $2[r.stream]
                and v.seq between r.from_seq and r.to_seq and v.kind = 1
                and v.recorded_at between r.from_at and r.to_at and v.recorded_at between %L and %L
            order by v.seq
        ) as e
        order by r.stream, e.seq
        $query$, v_ranges.from_at, v_ranges.to_at
    ) using
        p_threads, p_namespaces, v_ranges.streams, v_ranges.from_seqs, v_ranges.to_seqs, v_ranges.from_ats,
        v_ranges.to_ats;

    -- Writes may be committed before their checkpoint: allow a day.
    select
        array_agg(c.stream) as streams, array_agg(c.id) as ids, array_agg(c.from_at) as from_ats,
        array_agg(c.to_at) as to_ats, min(c.from_at) as from_at, max(c.to_at) as to_at
    into v_ranges
    from (
        select f.stream, f.id, greatest(f.first_at - interval '1 day', f.begins_at) as from_at, f.to_at
        from
            unnest(
                v_found.streams, v_found.ids, v_found.first_ats, v_found.begins, v_found.ends, v_found.written
            ) as f (stream, id, first_at, begins_at, to_at, written)
        where f.written
    ) as c;
    if v_ranges.streams is null then
        return;
    end if;
    return query execute format(
        $query$
        select r.stream, 4::smallint, e.seq, e.base_seq, e.recorded_at, e.checkpoint_id::text, null::text, e.body
        from unnest($3, $4, $5, $6) as r (stream, id, from_at, to_at)
        cross join lateral (
            select v.seq, v.base_seq, v.recorded_at, v.checkpoint_id, v.body
            from {schema}.events as v
            where
                v.thread_id = $1[r.stream] and v.checkpoint_ns = $2[r.stream] and v.checkpoint_id = r.id
                and v.kind = 2 and v.recorded_at between r.from_at and r.to_at
                and v.recorded_at between %L and %L
            order by v.seq
        ) as e
        order by r.stream, r.id, e.seq
        $query$, v_ranges.from_at, v_ranges.to_at
    ) using p_threads, p_namespaces, v_ranges.streams, v_ranges.ids, v_ranges.from_ats, v_ranges.to_ats;
end
$function$;
