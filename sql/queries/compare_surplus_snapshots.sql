select s.seq
from {schema}.snapshots as s
where
    s.thread_id = %(thread_id)s
    and s.checkpoint_ns = %(checkpoint_ns)s
    and not exists (
        select 1
        from {schema}.events as e
        where
            e.thread_id = %(thread_id)s
            and e.checkpoint_ns = %(checkpoint_ns)s
            and e.recorded_at >= coalesce(%(begins_at)s::timestamptz, '-infinity')
            and e.seq = s.seq
            and e.kind = 1
    )
order by s.seq
limit %(rows)s
