-- Streams that had ended go from the log with their partitions, without an event that would say so.
delete from {schema}.streams_rebuilt as r
where
    r.latest_checkpoint_id is null
    and r.written_through is null
    and not exists (
        select 1 from {schema}.events as e
        where e.thread_id = r.thread_id and e.checkpoint_ns = r.checkpoint_ns
    )
