-- Finds the name that seals have for a stream by its events' digests, if its row in `streams` is lost or altered.
--
-- Null: no seal has a digest of the stream. Digests of erased events are computed from their stubs, as far as the
-- records can be read. Each statement reads one stream, or `sealed`.
create or replace function {schema}.find_stream_name_v1(p_thread_id text, p_checkpoint_ns text) returns bytea
language plpgsql stable set search_path = pg_catalog, pg_temp as $function$
declare
    v_digests bytea[];
    v_name bytea;
    v_stub record;
    v_seq bigint;
    v_digest bytea;
begin
    select array_agg(e.digest order by e.seq desc) into v_digests
    from {schema}.events as e
    where e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns;
    for v_attempt in 1 .. 2 loop
        -- Look up one digest after the other in the index, until one is found.
        select d.stream into v_name
        from unnest(v_digests) as n (digest)
        cross join lateral (
            select s.stream from {schema}.sealed as s
            where s.digest = n.digest
            limit 1
        ) as d
        limit 1;
        exit when found or v_attempt = 2;

        v_digests := array[]::bytea[];
        for v_stub in
            select distinct on (r.o_seq)
                r.o_seq as seq, r.o_at as at, r.o_leaf as leaf, coalesce(b.digest, decode(a.anchor ->> 1, 'hex')) as before
            from {schema}.events as e
            cross join lateral {schema}.record_stubs_v1(e.body) as r
            cross join lateral (
                select {schema}.record_details_v1(e.body) -> 'anchor' as anchor
            ) as d
            left join {schema}.events as b
                on b.thread_id = p_thread_id and b.checkpoint_ns = p_checkpoint_ns and b.seq = r.o_seq - 1
            left join lateral (
                select d.anchor
                where (d.anchor ->> 0)::bigint = r.o_seq - 1
            ) as a on true
            where e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind > 2
            order by r.o_seq, e.seq desc
        loop
            -- The event before is an existing event, an anchor or a stub.
            v_digest := coalesce(
                v_stub.before, case when v_stub.seq = 1 then '' when v_stub.seq = v_seq + 1 then v_digest end
            );
            v_digest := sha256(v_digest || int8send(v_stub.seq) || v_stub.at || v_stub.leaf);
            v_seq := v_stub.seq;
            v_digests := v_digests || v_digest;
        end loop;
    end loop;
    return v_name;
exception
    -- A damaged record: invalid JSON, or JSON that is nested too deep.
    when data_exception or statement_too_complex then
        return null;
end
$function$;
