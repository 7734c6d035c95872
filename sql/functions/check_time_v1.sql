-- Refuses a time for relocated events that the stream has already reached, or that is not now.
--
-- The caller chooses the time, so that all events that one operation relocates have the same; the database's clock
-- limits the choice.
create or replace function {schema}.check_time_v1(p_thread_id text, p_checkpoint_ns text, p_at timestamptz) returns void
language plpgsql as $function$
begin
    perform 1 from {schema}.streams as s
    where
        s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns
        and p_at > s.updated_at and p_at <= greatest(s.updated_at, {schema}.clock_v1()) + interval '1 minute';
    if not found then
        raise exception '% is not a valid time for the next event of thread %', p_at, p_thread_id
            using errcode = 'invalid_parameter_value';
    end if;
end
$function$;
