-- Streams that had ended go from the log with their partitions, without an event that would say so: also those that had
-- not ended when they were derived.
with gone as (
    delete from {schema}.streams_rebuilt as r
    where
        not exists (
            select 1 from {schema}.events as e
            where e.thread_id = r.thread_id and e.checkpoint_ns = r.checkpoint_ns
        )
    returning r.thread_id, r.checkpoint_ns
),

checkpoints as (
    delete from {schema}.checkpoints_rebuilt as c
    using gone as g
    where c.thread_id = g.thread_id and c.checkpoint_ns = g.checkpoint_ns
),

snapshots as (
    delete from {schema}.snapshots_rebuilt as s
    using gone as g
    where s.thread_id = g.thread_id and s.checkpoint_ns = g.checkpoint_ns
)

delete from {schema}.rebuild_differences as d
using gone as g
where d.thread_id = g.thread_id and d.checkpoint_ns = g.checkpoint_ns
