-- Returns the stubs in a record's body: number, time (as timestamptz_send encodes it) and leaf of each erased event.
--
-- After the format byte and the length of the JSON come the JSON, and then 40 bytes for each number of its ranges.
create or replace function {schema}.record_stubs_v1(p_body bytea) returns table (
    o_seq bigint, o_at bytea, o_leaf bytea
)
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $function$
    select
        n.seq,
        substr(p_body, b.start + 1 + 40 * (n.number::integer - 1), 8),
        substr(p_body, b.start + 9 + 40 * (n.number::integer - 1), 32)
    from (
        select 5 + ('x' || encode(substr(p_body, 2, 4), 'hex'))::bit(32)::integer as start
    ) as b
    cross join lateral (
        select g.seq, row_number() over (order by g.seq) as number
        from jsonb_array_elements({schema}.record_details_v1(p_body) -> 'erased') as r (range)
        -- At most as many as the body has room for, even if a damaged range says more.
        cross join lateral generate_series(
            (r.range ->> 0)::bigint,
            least((r.range ->> 1)::bigint, (r.range ->> 0)::numeric + octet_length(p_body) / 40)::bigint
        ) as g (seq)
    ) as n
$function$;
