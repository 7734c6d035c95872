select e.seq, e.recorded_at, e.kind, e.checkpoint_id, e.base_seq, e.as_of, e.first_at, e.digest, e.body
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq > %s
order by e.seq, e.recorded_at
limit %s
