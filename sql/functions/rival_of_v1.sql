-- Returns the first checkpoint that conflicts with a new child of a parent, or null. For append_checkpoint_strict_v1.
--
-- With the parent saved: another current child of the parent that was appended after p_after, the last event of the
-- stream when the writer read the parent. p_after 0: the writer put the parent itself and knows of no child. Without a
-- parent: any checkpoint. With a parent that does not exist, because it was refused or never arrived: any checkpoint
-- appended after p_after. (append_checkpoint_v1 reports an erased parent.) A child that the writer knew conflicts too
-- if other content was put under its id since. The caller has locked the stream's row, so no append is in progress.
--
-- The key of `events` finds events after a number. None of them was recorded before the parent was first saved or the
-- stream begins, so older partitions are not read. If the parent was never put again, its own number serves instead of
-- 0.
create or replace function {schema}.rival_of_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_parent_id text, p_after bigint
) returns text
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $function$
declare
    v_after bigint := p_after;
    v_from timestamptz;
    v_rival_id text;
begin
    if p_parent_id is null then
        select c.checkpoint_id into v_rival_id
        from {schema}.checkpoints as c
        where
            c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id <> p_checkpoint_id
        order by c.checkpoint_id
        limit 1;
        return v_rival_id;
    end if;

    select
        case when p_after = 0 and c.recorded_at = c.first_at then c.seq else p_after end,
        greatest(c.first_at, s.begins_at)
    into v_after, v_from
    from {schema}.checkpoints as c
    inner join {schema}.streams as s on s.thread_id = c.thread_id and s.checkpoint_ns = c.checkpoint_ns
    where
        c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_parent_id;
    if not found then
        select c.checkpoint_id into v_rival_id
        from {schema}.checkpoints as c
        inner join {schema}.streams as s on s.thread_id = c.thread_id and s.checkpoint_ns = c.checkpoint_ns
        where
            c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id <> p_checkpoint_id
            and c.seq > p_after
            and p_parent_id > coalesce(s.erased_through, '')
        order by c.checkpoint_id desc
        limit 1;
        return v_rival_id;
    end if;

    -- One plan per session, or one per call when there are many partitions: see read_replay_v1.
    perform 1 from pg_inherits as i where i.inhparent = '{schema}.events'::regclass offset 48 limit 1;
    if found then
        execute format(
            $query$
            select c.checkpoint_id
            from {schema}.events as e
            inner join {schema}.checkpoints as c
                on
                    c.thread_id = $1 and c.checkpoint_ns = $2
                    and c.checkpoint_id = e.checkpoint_id and c.seq = e.seq
            where
                e.thread_id = $1 and e.checkpoint_ns = $2 and e.kind = 1
                and e.seq > $3
                and e.recorded_at >= %L
                and c.parent_checkpoint_id = $4 and c.checkpoint_id <> $5
            order by e.seq
            limit 1
            $query$, coalesce(v_from, '-infinity')
        )
        into v_rival_id
        using p_thread_id, p_checkpoint_ns, coalesce(v_after, p_after), p_parent_id, p_checkpoint_id;
    else
        select c.checkpoint_id into v_rival_id
        from {schema}.events as e
        inner join {schema}.checkpoints as c
            on
                c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns
                and c.checkpoint_id = e.checkpoint_id and c.seq = e.seq
        where
            e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind = 1
            and e.seq > coalesce(v_after, p_after)
            and e.recorded_at >= coalesce(v_from, '-infinity')
            and c.parent_checkpoint_id = p_parent_id and c.checkpoint_id <> p_checkpoint_id
        order by e.seq
        limit 1;
    end if;
    return v_rival_id;
end
$function$;
