-- Appends events of a stream again under their numbers, before an operation erases their base or drops their partition.
--
-- An event that loses its base gets a new, self-contained body; a null body keeps the event as it is. Relocated events
-- keep their place in the chain: time, state digest and digest of the original, and the base and body digest of its
-- leaf. The originals were recorded between p_from and p_to; p_at is later than everything that the stream recorded.
-- The caller has locked the stream's row.
create or replace function {schema}.relocate_events_v1(
    p_thread_id text, p_checkpoint_ns text, p_at timestamptz, p_from timestamptz, p_to timestamptz,
    p_seqs bigint[], p_bodies bytea[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
declare
    v_xid xid8;
begin
    perform {schema}.check_time_v1(p_thread_id, p_checkpoint_ns, p_at);
    select s.xid into v_xid
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;
    -- In a statement of its own: on Citus, one on the stream's row would run it on another node.
    v_xid := {schema}.effective_xid_v1(v_xid);

    insert into {schema}.events
        (
            thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, as_of, first_at,
            state_digest, origin_base_seq, origin_body_digest, digest, body
        )
    select
        e.thread_id, e.checkpoint_ns, e.seq, p_at, v_xid, e.kind, e.checkpoint_id,
        case when n.body is null then e.base_seq end,
        coalesce(e.as_of, e.recorded_at), c.first_at, e.state_digest,
        case when e.origin_body_digest is null then e.base_seq else e.origin_base_seq end,
        coalesce(e.origin_body_digest, sha256(e.body)), e.digest, coalesce(n.body, e.body)
    from unnest(p_seqs, p_bodies) as n (seq, body)
    inner join {schema}.events as e
        on
            e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.seq = n.seq
            and e.recorded_at between p_from and p_to
    left join {schema}.checkpoints as c
        on
            e.kind = 1 and c.thread_id = e.thread_id and c.checkpoint_ns = e.checkpoint_ns
            and c.checkpoint_id = e.checkpoint_id
    -- Positions are handed out in this order: a base before the events that build on it.
    order by n.seq;
end
$function$;
