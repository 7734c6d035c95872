-- Trigger function on a subscriber's `events`, `seals` and `partitions`: refuses rows that are not replicated.
-- Replicated rows do not fire these triggers, as replication applies them with session_replication_role = replica.
create or replace function {schema}.refuse_append_v1() returns trigger
language plpgsql as $function$
begin
    raise exception 'the log is a subscriber of another log, and has not taken over'
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Append to the other log. If that log is lost, run take_over() here.';
end
$function$;
