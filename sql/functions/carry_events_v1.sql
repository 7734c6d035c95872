-- Appends events of a stream again, under their numbers: those whose base is about to be erased, with a body that
-- needs none, and (a null body) those whose partition is about to be dropped, as they are. as_of keeps the time
-- when what they say was first saved. They are outside of the chain, each with a digest of its own, which the event
-- of the operation lists. They were recorded between p_from and p_to; p_at is later than all that the stream
-- recorded; the caller has locked the stream's row.
create or replace function {schema}.carry_events_v1(
    p_thread_id text, p_checkpoint_ns text, p_at timestamptz, p_from timestamptz, p_to timestamptz,
    p_seqs bigint[], p_bodies bytea[]
) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $function$
    insert into {schema}.events
        (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, as_of, first_at, digest, body)
    select
        o.thread_id, o.checkpoint_ns, o.seq, p_at,
        (
            select {schema}.effective_xid_v1(s.xid)
            from {schema}.streams as s
            where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns
        ),
        o.kind, o.checkpoint_id, o.base_seq, o.as_of, o.first_at,
        sha256(
            int8send(o.seq) || timestamptz_send(p_at) || timestamptz_send(o.as_of)
            || timestamptz_send(coalesce(o.first_at, o.as_of))
            || {schema}.event_leaf_v1(o.kind, o.thread_id, o.checkpoint_ns, o.checkpoint_id, o.base_seq, o.body)
        ),
        o.body
    from (
        select
            e.thread_id, e.checkpoint_ns, e.seq, e.kind, e.checkpoint_id,
            case when n.body is null then e.base_seq end as base_seq,
            coalesce(e.as_of, e.recorded_at) as as_of, c.first_at,
            coalesce(n.body, e.body) as body
        from unnest(p_seqs, p_bodies) as n (seq, body)
        inner join {schema}.events as e
            on
                e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.seq = n.seq
                and e.recorded_at between p_from and p_to
        left join {schema}.checkpoints as c
            on
                e.kind = 1 and c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns
                and c.checkpoint_id = e.checkpoint_id
    ) as o
    -- Positions are handed out in this order: a base before what builds on it.
    order by o.seq
$function$;
