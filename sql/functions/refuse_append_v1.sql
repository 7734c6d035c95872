-- The function of a replica's triggers on `events`, `seals` and `partitions`. What is replicated comes under another
-- role, and past them.
create or replace function {schema}.refuse_append_v1() returns trigger
language plpgsql as $function$
begin
    raise exception 'the log is a replica of another one, and has not taken over'
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Append to the log that it is a replica of. Should that one be gone: take_over().';
end
$function$;
