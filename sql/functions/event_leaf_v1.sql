-- Returns an event's leaf: the sha256 of format, kind, ids, base and content digest. Stable, so that the planner
-- inlines it.
create or replace function {schema}.event_leaf_v1(
    p_kind smallint, p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_base_seq bigint, p_content bytea
) returns bytea
language sql stable parallel safe as $function$
    select sha256(
        '\x02'::bytea || int2send(p_kind)
        || int4send(octet_length(p_thread_id)) || convert_to(p_thread_id, 'UTF8')
        || int4send(octet_length(p_checkpoint_ns)) || convert_to(p_checkpoint_ns, 'UTF8')
        || int4send(octet_length(p_checkpoint_id)) || convert_to(p_checkpoint_id, 'UTF8')
        || int8send(coalesce(p_base_seq, 0)) || p_content
    )
$function$;
