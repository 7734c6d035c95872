-- Restores the lost row in `streams` of a stream that still has events; false if there is nothing to restore.
--
-- Without the row, the next append would hand out numbers that the stream has used. Looks into the log only while the
-- log is marked as needing a rebuild (an unfinished row of `rebuilds`), or after a restore that setup() has not seen
-- yet. The stream keeps the name that seals have for it; a stream that no seal knows gets a new name.
create or replace function {schema}.adopt_stream_v1(p_thread_id text, p_checkpoint_ns text) returns boolean
language plpgsql as $function$
declare
    v_begins_at timestamptz;
    v_name bytea;
begin
    -- A restored row of `generations` has another xmin than its column says. Every first append runs this check, so it
    -- must stay cheap.
    perform 1 from {schema}.rebuilds as r
    where r.finished_at is null
    union all
    select 1 from {schema}.generations as g
    where
        g.xmin::text::bigint <> g.xid and not {schema}.is_distributed_v1()
        and g.generation = (select max(n.generation) from {schema}.generations as n);
    if not found then
        return false;
    end if;
    select max(e.as_of) into v_begins_at
    from {schema}.events as e
    where e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind > 2;
    v_name := coalesce(
        {schema}.find_stream_name_v1(p_thread_id, p_checkpoint_ns), uuid_send(gen_random_uuid())
    );
    insert into {schema}.streams (
        thread_id, checkpoint_ns, name, epoch, erased_through, begins_at, written_through, seq, xid, active_at, updated_at,
        digest, latest_checkpoint_id
    )
    select
        p_thread_id, p_checkpoint_ns, v_name, max(e.seq),
        nullif((array_agg(e.checkpoint_id order by e.seq desc) filter (where e.kind > 2))[1], ''),
        v_begins_at, max(e.checkpoint_id) filter (where e.kind = 2), max(e.seq),
        (array_agg(e.xid order by e.seq desc))[1],
        max(coalesce(e.as_of, e.recorded_at)) filter (where e.kind in (1, 2)),
        (array_agg(e.recorded_at order by e.seq desc))[1], (array_agg(e.digest order by e.seq desc))[1],
        max(e.checkpoint_id) filter (where e.kind = 1)
    from {schema}.events as e
    where
        e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns
        and e.recorded_at >= coalesce(v_begins_at, '-infinity')
    having count(*) > 0
    on conflict (thread_id, checkpoint_ns) do nothing;
    return found;
end
$function$;
