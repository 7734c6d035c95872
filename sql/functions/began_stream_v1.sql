-- True if this transaction began the stream and erased nothing of it, so that no other transaction has seen its events.
--
-- The last event's transaction would not prove it, as a writer may append to any stream. Relocated events have an
-- as_of. The time bound names the partitions to look into; a day allows for clocks that were set back.
create or replace function {schema}.began_stream_v1(p_thread_id text, p_checkpoint_ns text) returns boolean
language plpgsql as $function$
begin
    return exists (
        select 1
        from {schema}.streams as s
        inner join {schema}.events as e on s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns
        where
            s.thread_id = p_thread_id and s.checkpoint_ns = p_checkpoint_ns
            and s.erased_through is null and s.begins_at is null
            and e.seq = 1 and e.kind in (1, 2) and e.as_of is null and e.xid = pg_current_xact_id()
            and e.recorded_at >= now() - interval '1 day'
    );
end
$function$;
