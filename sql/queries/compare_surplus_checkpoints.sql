-- Rows of a stream for which there is no event.
select c.checkpoint_id
from {schema}.checkpoints as c
where
    c.thread_id = %(thread_id)s
    and c.checkpoint_ns = %(checkpoint_ns)s
    and not exists (
        select 1
        from {schema}.events as e
        where
            e.thread_id = %(thread_id)s
            and e.checkpoint_ns = %(checkpoint_ns)s
            and e.recorded_at >= coalesce(%(begins_at)s::timestamptz, '-infinity')
            and e.checkpoint_id = c.checkpoint_id
            and e.kind = 1
    )
order by c.checkpoint_id
limit %(rows)s
