-- Reads a checkpoint and its ancestors with their events and writes, to replay channels from their writes.
--
-- p_checkpoint_id null: the stream's latest. Ancestors follow parent by parent: at most p_rows, and no more once their
-- states together reach p_bytes. Rows by o_part:
--   0  the stream: its last seq, o_other_seq = its epoch, o_at = when it was last appended to, o_id = its latest
--      checkpoint, o_parent_id = the greatest id of a checkpoint with writes, o_body = its digest
--   1  a checkpoint, the nearest first: o_seq, o_at, o_id, o_parent_id
--   2  the event of such a checkpoint: o_seq, o_other_seq = base_seq, o_id, o_body
--   3  the stream has the caller's event p_known_seq with the digest that the caller has. There are no rows of part 1
--      then; parts 2, 4 and 5 are all later events, of all checkpoints, in the order of seq
--   4  a writes event: o_seq, o_other_seq = base_seq, o_id, o_body
--   5  a record since then
-- The caller's known event is ignored when more than p_most events followed it.
create or replace function {schema}.read_ancestry_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_rows integer, p_bytes bigint,
    p_known_seq bigint, p_known_epoch bigint, p_known_digest bytea, p_known_at timestamptz, p_most bigint
) returns table (
    o_part smallint, o_seq bigint, o_other_seq bigint, o_at timestamptz, o_id text, o_parent_id text, o_body bytea
)
language plpgsql stable set search_path = pg_catalog, pg_temp as $function$
declare
    v_is_known boolean := false;
    v_event record;
    v_found record;
    v_stream record;
begin
    select s.seq, s.epoch, s.updated_at, s.latest_checkpoint_id, s.written_through, s.digest, s.begins_at into v_stream
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
    if not found then
        return;
    end if;
    o_part := 0;
    o_seq := v_stream.seq;
    o_other_seq := v_stream.epoch;
    o_at := v_stream.updated_at;
    o_id := v_stream.latest_checkpoint_id;
    o_parent_id := v_stream.written_through;
    o_body := v_stream.digest;
    return next;
    o_parent_id := null;
    o_body := null;

    if p_known_epoch = v_stream.epoch and v_stream.seq - p_known_seq between 0 and p_most then
        o_part := 3;
        if v_stream.seq = p_known_seq then
            if v_stream.digest = p_known_digest then
                return next;
                return;
            end if;
        else
            for v_event in execute
                $query$
                select e.seq, e.kind, e.base_seq, e.recorded_at, e.checkpoint_id, e.digest, e.body
                from {schema}.events as e
                where
                    e.thread_id = $1 and e.checkpoint_ns = $2 and e.seq between $3 and $4
                    and e.recorded_at between $5 and $6
                order by e.seq
                $query$
                using p_thread_id, p_checkpoint_ns, p_known_seq, v_stream.seq, p_known_at, v_stream.updated_at
            loop
                if not v_is_known then
                    v_is_known := v_event.seq = p_known_seq and v_event.digest = p_known_digest;
                    exit when not v_is_known;
                    return next;
                else
                    o_part := case v_event.kind when 1 then 2 when 2 then 4 else 5 end;
                    o_seq := v_event.seq;
                    o_other_seq := v_event.base_seq;
                    o_at := v_event.recorded_at;
                    o_id := v_event.checkpoint_id;
                    o_body := v_event.body;
                    return next;
                end if;
            end loop;
            if v_is_known then
                return;
            end if;
        end if;
    end if;

    with recursive path as (
        select
            c.checkpoint_id, c.parent_checkpoint_id, c.seq, c.recorded_at, c.first_at, c.state_bytes::numeric as bytes,
            1 as depth
        from {schema}.checkpoints as c
        where
            c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns
            and c.checkpoint_id = coalesce(p_checkpoint_id, v_stream.latest_checkpoint_id)
        union all
        select
            c.checkpoint_id, c.parent_checkpoint_id, c.seq, c.recorded_at, c.first_at, p.bytes + c.state_bytes, p.depth + 1
        from path as p
        inner join {schema}.checkpoints as c
            on
                c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns
                and c.checkpoint_id = p.parent_checkpoint_id
        where p.depth < p_rows and p.bytes < p_bytes
    )

    select
        array_agg(p.checkpoint_id) as ids, array_agg(p.parent_checkpoint_id) as parent_ids, array_agg(p.seq) as seqs,
        array_agg(p.recorded_at) as ats, min(p.recorded_at) as from_at, max(p.recorded_at) as to_at,
        min(p.first_at) as first_at, min(p.checkpoint_id) as first_id
    into v_found
    from path as p;
    if v_found.ids is null then
        return;
    end if;

    return query
    select 1::smallint, c.seq, null::bigint, c.at, c.id::text, c.parent_id::text, null::bytea
    from unnest(v_found.seqs, v_found.ats, v_found.ids, v_found.parent_ids) as c (seq, at, id, parent_id);

    return query execute
        $query$
        select 2::smallint, e.seq, e.base_seq, e.recorded_at, e.checkpoint_id::text, null::text, e.body
        from {schema}.events as e
        where
            e.thread_id = $1 and e.checkpoint_ns = $2 and e.seq = any($3) and e.kind = 1
            and e.recorded_at between $4 and $5
        $query$
        using p_thread_id, p_checkpoint_ns, v_found.seqs, v_found.from_at, v_found.to_at;

    if v_stream.written_through is null or v_stream.written_through < v_found.first_id then
        return;
    end if;
    -- Writes may be committed before their checkpoint: allow a day.
    return query execute
        $query$
        select 4::smallint, e.seq, e.base_seq, e.recorded_at, e.checkpoint_id::text, null::text, e.body
        from {schema}.events as e
        where
            e.thread_id = $1 and e.checkpoint_ns = $2 and e.checkpoint_id = any($3) and e.kind = 2
            and e.recorded_at between $4 and $5
        $query$
        using
            p_thread_id, p_checkpoint_ns, v_found.ids,
            greatest(v_found.first_at - interval '1 day', v_stream.begins_at), v_stream.updated_at;
end
$function$;
