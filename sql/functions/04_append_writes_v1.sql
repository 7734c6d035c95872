-- Appends "writes saved": all the writes of one put_writes call. Their checkpoint need not be there yet. Where it
-- is, the body may hold differences from the checkpoint's state, as its event p_base_seq at p_base_at left it.
-- o_status 'ok'; or, with nothing written, 'erased' when the checkpoint was erased (or the root graph's,
-- p_root_id), 'stale' when the base is not the checkpoint's current event.
create or replace function {schema}.append_writes_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_root_id text,
    p_base_seq bigint, p_base_at timestamptz, p_epoch bigint, p_body bytea,
    out o_status text, out o_seq bigint, out o_at timestamptz
)
language plpgsql as $function$
declare
    v_digest bytea;
    v_xid xid8;
begin
    if p_base_seq is not null then
        perform 1 from {schema}.checkpoints as c
        where
            c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_checkpoint_id
            and c.seq = p_base_seq and c.recorded_at = p_base_at;
        if not found then
            o_status := 'stale';
            return;
        end if;
    end if;

    select a.o_status, a.o_seq, a.o_at, a.o_digest, a.o_xid
    into o_status, o_seq, o_at, v_digest, v_xid
    from {schema}.advance_stream_v1(
        p_thread_id, p_checkpoint_ns,
        {schema}.event_leaf_v1(2::smallint, p_thread_id, p_checkpoint_ns, p_checkpoint_id, p_base_seq, p_body),
        null, p_checkpoint_id, p_checkpoint_id, p_root_id, case when p_base_seq is not null then p_epoch end, false
    ) as a;
    if o_status = 'ok' then
        insert into {schema}.events
            (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, digest, body)
        values (p_thread_id, p_checkpoint_ns, o_seq, o_at, v_xid, 2, p_checkpoint_id, p_base_seq, v_digest, p_body);
    end if;
end
$function$;
