-- Which numbers of a stream are about to have no event in the chain any more, as [[from, to, digest of the last],
-- …]: with it the chain can be followed across each gap. p_seqs are the events that go (null: all checkpoints and
-- writes), and so does all that was recorded before p_void_before; what was carried earlier left the chain then.
-- All of these were recorded between p_from and p_to. Where no checkpoint and no write survives (p_is_end), a last
-- range covers all that ever was, for earlier records may be dropped before this one.
create or replace function {schema}.erased_ranges_v1(
    p_thread_id text, p_checkpoint_ns text, p_seqs bigint[], p_from timestamptz, p_to timestamptz,
    p_void_before timestamptz, p_is_end boolean
) returns jsonb
language plpgsql as $function$
declare
    v_stream record;
    v_ranges jsonb;
begin
    select s.seq, s.digest into v_stream
    from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns;

    -- Gaps and islands.
    select coalesce(jsonb_agg(jsonb_build_array(i.from_seq, i.to_seq, i.digest) order by i.from_seq), '[]') into v_ranges
    from (
        select
            case when g.is_void then 1 else min(g.seq) end as from_seq, max(g.seq) as to_seq,
            encode((array_agg(g.digest order by g.seq desc))[1], 'hex') as digest
        from (
            select
                e.seq, e.digest, coalesce(e.recorded_at < p_void_before, false) as is_void,
                e.seq - row_number() over (order by e.seq) as island
            from {schema}.events as e
            where
                e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns
                and e.recorded_at between p_from and p_to
                and (
                    e.recorded_at < p_void_before
                    or case when p_seqs is null then e.kind in (1, 2) else e.seq = any(p_seqs) end
                )
                and (e.as_of is null or e.kind > 2)
        ) as g
        group by g.is_void, case when g.is_void then 0 else g.island end
    ) as i;
    if p_is_end then
        v_ranges := v_ranges || jsonb_build_array(jsonb_build_array(1, v_stream.seq, encode(v_stream.digest, 'hex')));
    end if;
    return v_ranges;
end
$function$;
