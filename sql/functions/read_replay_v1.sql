-- Reads the part of read_checkpoint_v1 that comes from the log: events to replay, and writes.
--
-- Parts 1 to 3 if p_wants_events, and the writes since p_writes_from if that is given. The caller passes what is known
-- of the checkpoint and its stream.
--
-- Time bounds limit the read to the partitions that matter. Planning such a statement costs more than running it. So a
-- session has one generic plan, whatever the statistics, as tables will grow; which partitions the times touch is
-- decided at run time. That plan locks every partition, which is harmless while there are few. With many, each call
-- plans with literal times and locks only the partitions that they touch; 48 partitions stay below the server's default
-- max_locks_per_transaction.
--
-- A function of its own, because its settings cost time on each call, and most calls of read_checkpoint_v1 need nothing
-- from the log.
create or replace function {schema}.read_replay_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_seq bigint, p_at timestamptz,
    p_keyframe_seq bigint, p_keyframe_at timestamptz, p_begins_at timestamptz, p_updated_at timestamptz,
    p_known_seq bigint, p_known_at timestamptz, p_wants_events boolean, p_writes_from timestamptz
) returns table (
    o_part smallint, o_seq bigint, o_other_seq bigint, o_at timestamptz, o_id text, o_parent_id text, o_body bytea
)
language plpgsql stable
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_sort = off
as $function$
declare
    v_is_split boolean;
    v_events refcursor;
    v_event record;
    v_want bigint := p_seq;
    v_from bigint := p_keyframe_seq;
    v_from_at timestamptz;
    v_to_at timestamptz := greatest(p_at, p_keyframe_at);
    v_snapshot bytea;
    v_done boolean := not p_wants_events;
begin
    perform 1 from pg_inherits as i where i.inhparent = '{schema}.events'::regclass offset 48 limit 1;
    v_is_split := found;

    -- The first pass ends at the keyframe. If the keyframe's snapshot is gone, a second pass continues behind it. A
    -- relocated keyframe is later than the events that build on it.
    v_from_at := case when p_keyframe_at <= p_at then p_keyframe_at else coalesce(p_begins_at, '-infinity') end;
    while not v_done loop
        if v_is_split then
            -- Literal times: plan_cache_mode makes a cursor's plan generic even if it is used once.
            open v_events no scroll for execute format(
                $query$
                select e.seq, e.base_seq, e.recorded_at, e.body
                from {schema}.events as e
                where
                    e.thread_id = $1 and e.checkpoint_ns = $2 and e.kind = 1
                    and e.seq between $3 and $4
                    and e.recorded_at between %L and %L
                order by e.seq desc
                $query$, v_from_at, v_to_at
            ) using p_thread_id, p_checkpoint_ns, v_from, v_want;
        else
            open v_events no scroll for
                select e.seq, e.base_seq, e.recorded_at, e.body
                from {schema}.events as e
                where
                    e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind = 1
                    and e.seq between v_from and v_want
                    and e.recorded_at between v_from_at and v_to_at
                order by e.seq desc;
        end if;
        loop
            fetch v_events into v_event;
            exit when not found;
            -- Skip events of other branches.
            continue when v_event.seq <> v_want;
            o_seq := v_event.seq;
            o_other_seq := v_event.base_seq;
            o_at := v_event.recorded_at;

            v_snapshot := null;
            if v_event.seq = p_known_seq and v_event.recorded_at = p_known_at then
                v_done := true;
            elsif v_event.seq <= p_keyframe_seq and v_event.base_seq is not null then
                select s.body into v_snapshot
                from {schema}.snapshots as s
                where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns and s.seq = v_event.seq;
                v_done := found;
            end if;

            -- If replay starts from a state, that state's own event is needed only for the target, for its metadata.
            if not v_done or v_event.seq = p_seq then
                o_part := 2;
                o_body := v_event.body;
                return next;
            end if;
            if v_done then
                o_part := case when v_snapshot is null then 3 else 1 end;
                o_body := v_snapshot;
                if o_part = 3 then
                    o_other_seq := p_keyframe_seq;
                    o_at := p_keyframe_at;
                end if;
                return next;
                exit;
            end if;
            v_done := v_event.base_seq is null;
            exit when v_done;
            v_want := v_event.base_seq;
        end loop;
        close v_events;
        exit when v_done or v_from = 1;
        v_from := 1;
        v_from_at := coalesce(p_begins_at, '-infinity');
        v_to_at := p_updated_at;
    end loop;

    if p_writes_from is null then
        return;
    end if;
    if v_is_split then
        return query execute
            $query$
            select 4::smallint, e.seq, e.base_seq, e.recorded_at, null::text, null::text, e.body
            from {schema}.events as e
            where
                e.thread_id = $1 and e.checkpoint_ns = $2 and e.checkpoint_id = $3 and e.kind = 2
                and e.recorded_at between $4 and $5
            order by e.seq
            $query$
            using p_thread_id, p_checkpoint_ns, p_checkpoint_id, p_writes_from, p_updated_at;
    else
        return query
        select 4::smallint, e.seq, e.base_seq, e.recorded_at, null::text, null::text, e.body
        from {schema}.events as e
        where
            e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.checkpoint_id = p_checkpoint_id
            and e.kind = 2
            and e.recorded_at between p_writes_from and p_updated_at
        order by e.seq;
    end if;
end
$function$;
