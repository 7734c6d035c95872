-- Hands out a stream's next number under its row lock, with the event's time, digest and transaction id.
--
-- Times never decrease within a stream, so a range of numbers is also a range of times: from it, readers know which
-- partitions they need. Transaction ids never decrease either: o_xid is the caller's, or that of an earlier event of
-- the stream if it is greater.
--
-- Refuses without changing anything: 'stale' if p_epoch is given and a possible base was replaced or erased since;
-- 'erased' if p_needs names an erased checkpoint of the stream, or p_root_id an erased checkpoint of the thread's root
-- graph. The second is for a subgraph that begins a stream after the erasure, which therefore could not erase it.
--
-- The append functions take the number in a statement of their own in the usual case, and call this function otherwise.
-- A change to the update here is needed there too.
create or replace function {schema}.advance_stream_v1(
    p_thread_id text, p_checkpoint_ns text, p_leaf bytea,
    p_latest_id text, p_written_id text, p_needs text, p_root_id text, p_epoch bigint, p_replaces boolean,
    out o_status text, out o_seq bigint, out o_at timestamptz, out o_epoch bigint, out o_digest bytea, out o_xid xid8
)
language plpgsql as $function$
declare
    v_now timestamptz := {schema}.clock_v1();
    -- Null on a standby: there the update below fails, with a clearer error than assigning an id would.
    v_current xid8 := case when not pg_is_in_recovery() then pg_current_xact_id() end;
    v_epoch bigint;
    v_checked bigint;
    v_is_there boolean;
    v_name bytea;
begin
    o_status := 'ok';
    -- The root's row before the stream's own, as an erasure locks them: an update that has waited for a row keeps it
    -- locked even if it then refuses.
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
            xid = greatest(s.xid, v_current),
            -- A rebuild may have raised the epoch above the number.
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
        returning s.seq, s.updated_at, s.epoch, s.digest, s.xid into o_seq, o_at, o_epoch, o_digest, o_xid;
        if found then
            -- Rarely ahead, and even more rarely by an id of another cluster: then a second update corrects it.
            if o_xid > v_current and {schema}.effective_xid_v1(o_xid) <> o_xid then
                o_xid := v_current;
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

        -- The stream is new, or something was erased from it, perhaps what this event needs. A check inside the update
        -- would use the update's snapshot, which may be older than an erasure that it waited for. So check here, and
        -- let the update verify that nothing was erased since the epoch was read.
        select s.epoch into v_epoch
        from {schema}.streams as s
        where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
        v_is_there := found;
        -- The root's row may be lost.
        if p_root_id is not null and p_checkpoint_ns <> '' then
            perform {schema}.adopt_stream_v1(p_thread_id, '');
        end if;
        continue when not v_is_there and {schema}.adopt_stream_v1(p_thread_id, p_checkpoint_ns);
        -- Lock the root's row as an erasure locks it, in case one that has not seen this stream is about to commit.
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
            v_current, p_latest_id, p_written_id, v_now, v_now
        )
        on conflict (thread_id, checkpoint_ns) do nothing
        returning seq, updated_at, epoch, digest, xid into o_seq, o_at, o_epoch, o_digest, o_xid;
        -- Otherwise another session is making the stream's first append, and the update will find its row.
        exit when found;
    end loop;
end
$function$;
