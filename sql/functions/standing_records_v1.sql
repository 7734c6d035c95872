-- The records that a stream has, as [[number, time], …]: for the record of its end. That one covers all numbers before
-- it, as earlier records may go with their partitions first; whether one of them did, or was taken out, its time tells.
create or replace function {schema}.standing_records_v1(
    p_thread_id text, p_checkpoint_ns text, p_void_before timestamptz
) returns jsonb
language plpgsql as $function$
begin
    return (
        select
            jsonb_agg(
                jsonb_build_array(
                    e.seq, to_char(e.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00')
                ) order by e.seq
            )
        from {schema}.events as e
        inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
        where
            e.thread_id = p_thread_id and e.checkpoint_ns = p_checkpoint_ns and e.kind > 2
            and e.recorded_at >= coalesce(greatest(s.begins_at, p_void_before), '-infinity')
    );
end
$function$;
