select e.seq, e.kind, e.as_of, e.body
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.kind > 2
order by e.seq
