-- Returns the leaf of a stored event; of a relocated event, the original's leaf.
create or replace function {schema}.stored_leaf_v1(p_event {schema}.events) returns bytea
language sql stable parallel safe as $function$
    select {schema}.event_leaf_v1(
        p_event.kind, p_event.thread_id, p_event.checkpoint_ns, p_event.checkpoint_id,
        case when p_event.origin_body_digest is null then p_event.base_seq else p_event.origin_base_seq end,
        sha256(
            coalesce(p_event.state_digest, '') || coalesce(p_event.origin_body_digest, sha256(p_event.body))
        )
    )
$function$;
