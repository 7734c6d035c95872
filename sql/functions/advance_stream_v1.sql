-- Hands out a stream's next number under its row lock, together with the time and the digest of the event that takes
-- it. Times never run backwards within a stream, so a range
-- of numbers is also a range of times, which is what lets readers name the partitions that they need. Nor do
-- transaction ids: o_xid is the caller's, or that of an earlier event of the stream where it is greater.
--
-- Refuses, without touching anything: 'stale' when p_epoch is given and an event that may have been a base has been
-- replaced or erased since; 'erased' when p_needs names a checkpoint of the stream that was erased, or p_root_id one of
-- the thread's root graph: a subgraph of a run that goes on has streams that the erasure never saw.
--
-- The append functions take the number in a statement of their own where nothing can stand in the way, and come here
-- otherwise: what changes in the update here changes there.
create or replace function {schema}.advance_stream_v1(
    p_thread_id text, p_checkpoint_ns text, p_leaf bytea,
    p_latest_id text, p_written_id text, p_needs text, p_root_id text, p_epoch bigint, p_replaces boolean,
    out o_status text, out o_seq bigint, out o_at timestamptz, out o_epoch bigint, out o_digest bytea, out o_xid xid8
)
language plpgsql as $function$
declare
    v_now timestamptz := {schema}.clock_v1();
    v_epoch bigint;
    v_checked bigint;
    v_is_there boolean;
    v_is_ahead boolean;
    v_name bytea;
begin
    o_status := 'ok';
    -- The root's row before the stream's own, as an erasure locks them: an update that has waited for one keeps the row
    -- locked even where it refuses.
    if p_root_id is not null and p_epoch is null then
        perform 1 from {schema}.streams as s
        where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns and s.erased_through is null;
        if not found then
            perform 1 from {schema}.streams as s
            where s.thread_id = p_thread_id and s.checkpoint_ns = ''
            for key share;
        end if;
    end if;
    loop
        update {schema}.streams as s
        set
            seq = s.seq + 1,
            updated_at = greatest(s.updated_at, v_now),
            digest = {schema}.next_digest_v1(s.digest, s.seq + 1, greatest(s.updated_at, v_now), p_leaf),
            xid = greatest(s.xid, pg_current_xact_id()),
            -- A rebuild may have raised it to above the number.
            epoch = case when p_replaces then greatest(s.epoch, s.seq) + 1 else s.epoch end,
            latest_checkpoint_id = greatest(s.latest_checkpoint_id, p_latest_id),
            written_through = greatest(s.written_through, p_written_id),
            active_at = case
                when coalesce(p_latest_id, p_written_id) is null then s.active_at else greatest(s.updated_at, v_now)
            end
        where
            s.thread_id = p_thread_id
            and s.checkpoint_ns = p_checkpoint_ns
            and (p_epoch is null or s.epoch = p_epoch)
            and (
                coalesce(p_needs, p_root_id) is null
                or p_epoch is not null
                or s.erased_through is null
                or p_root_id is null and p_needs > s.erased_through
                or s.epoch = v_checked
            )
        returning s.seq, s.updated_at, s.epoch, s.digest, s.xid, s.xid > pg_current_xact_id()
        into o_seq, o_at, o_epoch, o_digest, o_xid, v_is_ahead;
        if found then
            -- Rare, and rarer still that it is of another cluster: then a second update puts it right.
            if v_is_ahead and {schema}.effective_xid_v1(o_xid) <> o_xid then
                o_xid := pg_current_xact_id();
                update {schema}.streams as s
                set xid = o_xid
                where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
            end if;
            exit;
        end if;

        if p_epoch is not null then
            o_status := 'stale';
            exit;
        end if;

        -- The stream is new, or it refuses: something was erased from it, perhaps what this event needs. To look inside
        -- the update would be to look with its snapshot, which may be older than an erasure that it waited for; so look
        -- here, and let the update make sure that nothing was erased since the epoch was read.
        select s.epoch into v_epoch
        from {schema}.streams as s
        where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
        v_is_there := found;
        -- Its row may be lost.
        if p_root_id is not null and p_checkpoint_ns <> '' then
            perform {schema}.adopt_stream_v1(p_thread_id, '');
        end if;
        continue when not v_is_there and {schema}.adopt_stream_v1(p_thread_id, p_checkpoint_ns);
        -- The root's row is locked as an erasure locks it, against one that has not seen this stream and is about to
        -- commit.
        if p_root_id is not null then
            perform 1 from {schema}.streams as s
            where s.thread_id = p_thread_id and s.checkpoint_ns = ''
            for key share;
        end if;
        if
            {schema}.was_erased_v1(p_thread_id, '', p_root_id)
            or {schema}.was_erased_v1(p_thread_id, p_checkpoint_ns, p_needs)
        then
            o_status := 'erased';
            exit;
        end if;
        v_checked := v_epoch;
        continue when v_is_there;

        v_name := uuid_send(gen_random_uuid());
        insert into {schema}.streams
            (
                thread_id, checkpoint_ns, name, seq, digest, xid, latest_checkpoint_id, written_through, active_at,
                updated_at
            )
        values (
            p_thread_id, p_checkpoint_ns, v_name, 1, {schema}.next_digest_v1('', 1, v_now, p_leaf),
            pg_current_xact_id(), p_latest_id, p_written_id, v_now, v_now
        )
        on conflict (thread_id, checkpoint_ns) do nothing
        returning seq, updated_at, epoch, digest, xid into o_seq, o_at, o_epoch, o_digest, o_xid;
        -- Otherwise it is somebody else's first append just now, and the update will find it.
        exit when found;
    end loop;
end
$function$;
