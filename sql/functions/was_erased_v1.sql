-- True if a checkpoint was erased: it does not exist, and its id is not above the greatest erased id of its stream.
--
-- An erased checkpoint that was saved again exists.
create or replace function {schema}.was_erased_v1(
    p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text
) returns boolean
language plpgsql as $function$
begin
    if p_checkpoint_id is null then
        return false;
    end if;
    perform 1 from {schema}.streams as s
    where s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns and s.erased_through >= p_checkpoint_id;
    if not found then
        return false;
    end if;
    perform 1 from {schema}.checkpoints as c
    where c.thread_id = p_thread_id and c.checkpoint_ns = p_checkpoint_ns and c.checkpoint_id = p_checkpoint_id;
    return not found;
end
$function$;
