-- What an event adds to its stream's hash chain: the sha256 of everything that identifies it and of its body. Each text
-- is hashed by itself, so that no two lists of texts give the same bytes. Stable, as convert_to is: were it declared
-- immutable, it would not become a part of the statement that uses it.
create or replace function {schema}.event_leaf_v1(
    p_kind smallint, p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_base_seq bigint, p_body bytea
) returns bytea
language sql stable parallel safe as $function$
    select sha256(
        int2send(p_kind)
        || sha256(convert_to(p_thread_id, 'UTF8'))
        || sha256(convert_to(p_checkpoint_ns, 'UTF8'))
        || sha256(convert_to(p_checkpoint_id, 'UTF8'))
        || int8send(coalesce(p_base_seq, 0))
        || sha256(p_body)
    )
$function$;
