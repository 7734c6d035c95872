-- Reads everything that several checkpoints of one stream consist of: each event once, oldest first.
--
-- Parts as in read_checkpoint_v1, but 0 has the keyframe's seq in o_other_seq, 2 covers the whole range including other
-- branches, and 4 has o_id.
create or replace function {schema}.read_checkpoints_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_ids text[]
) returns table (
    o_part smallint, o_seq bigint, o_other_seq bigint, o_at timestamptz, o_id text, o_parent_id text, o_body bytea
)
language plpgsql stable set search_path = pg_catalog, pg_temp as $function$
declare
    v_stream record;
    v_range record;
begin
    select s.written_through, s.begins_at, s.updated_at into v_stream
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;

    select
        min(c.keyframe_seq) as from_seq, max(c.seq) as to_seq,
        -- A relocated keyframe is later than the events that build on it.
        case
            when bool_or(c.keyframe_at > c.recorded_at) then coalesce(v_stream.begins_at, '-infinity')
            else min(c.keyframe_at)
        end as from_at,
        greatest(max(c.recorded_at), max(c.keyframe_at)) as to_at, min(c.first_at) as first_at,
        min(c.checkpoint_id) as first_id, array_agg(c.keyframe_seq) as keyframes
    into v_range
    from {schema}.checkpoints as c
    where
        c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns
        and c.checkpoint_id = any(p_checkpoint_ids);
    if v_range.to_seq is null then
        return;
    end if;

    return query
    select
        0::smallint, c.seq, c.keyframe_seq, c.recorded_at, c.checkpoint_id::text, c.parent_checkpoint_id::text,
        null::bytea
    from {schema}.checkpoints as c
    where
        c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns
        and c.checkpoint_id = any(p_checkpoint_ids);

    return query
    select 1::smallint, s.seq, null::bigint, s.recorded_at, null::text, null::text, s.body
    from {schema}.snapshots as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns and s.seq = any(v_range.keyframes);

    return query execute
        $query$
        select 2::smallint, e.seq, e.base_seq, e.recorded_at, null::text, null::text, e.body
        from {schema}.events as e
        where
            e.thread_id = $1 and e.checkpoint_ns = $2 and e.seq between $3 and $4 and e.kind = 1
            and e.recorded_at between $5 and $6
        order by e.seq
        $query$
        using p_thread_id, p_checkpoint_ns, v_range.from_seq, v_range.to_seq, v_range.from_at, v_range.to_at;

    if v_stream.written_through is null or v_stream.written_through < v_range.first_id then
        return;
    end if;
    return query execute
        $query$
        select 4::smallint, e.seq, e.base_seq, e.recorded_at, e.checkpoint_id::text, null::text, e.body
        from {schema}.events as e
        where
            e.thread_id = $1 and e.checkpoint_ns = $2 and e.checkpoint_id = any($3) and e.kind = 2
            and e.recorded_at between $4 and $5
        order by e.checkpoint_id, e.seq
        $query$
        using
            p_thread_id, p_checkpoint_ns, p_checkpoint_ids,
            greatest(v_range.first_at - interval '1 day', v_stream.begins_at), v_stream.updated_at;
end
$function$;
