-- Returns the leaf of a stored event; of a relocated event, the original's leaf.
create or replace function {schema}.stored_leaf_v1(
    p_kind smallint, p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_base_seq bigint,
    p_state_digest bytea, p_origin_base_seq bigint, p_origin_body_digest bytea, p_body bytea
) returns bytea
language sql stable parallel safe as $function$
    select {schema}.event_leaf_v1(
        p_kind, p_thread_id, p_checkpoint_ns, p_checkpoint_id,
        case when p_origin_body_digest is null then p_base_seq else p_origin_base_seq end,
        sha256(coalesce(p_state_digest, '') || coalesce(p_origin_body_digest, sha256(p_body)))
    )
$function$;
