-- Returns the digest of a stream's next event: sha256(previous digest, seq, recorded_at, leaf). Stable, so that the
-- planner inlines it.
create or replace function {schema}.next_digest_v1(
    p_digest bytea, p_seq bigint, p_recorded_at timestamptz, p_leaf bytea
) returns bytea
language sql stable parallel safe as $function$
    select sha256(p_digest || int8send(p_seq) || timestamptz_send(p_recorded_at) || p_leaf)
$function$;
