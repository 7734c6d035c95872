-- Completes the seal that begin_seal_v1 began in the same transaction, with the roots that the client computed.
create or replace function {schema}.finish_seal_v1(
    p_number bigint, p_streams bigint, p_changed bigint, p_root bytea, p_changes bytea, p_digest bytea, p_actor text
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $function$
begin
    update {schema}.seals as s
    set
        streams = p_streams, changed = p_changed, root = p_root, changes = p_changes, digest = p_digest, actor = p_actor
    where s.number = p_number and s.digest = '';
    if not found then
        raise exception 'no seal % was begun', p_number using errcode = 'object_not_in_prerequisite_state';
    end if;
end
$function$;
