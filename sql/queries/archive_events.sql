select
    e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.position, e.kind, e.checkpoint_id, e.base_seq, e.as_of,
    e.first_at, e.digest, e.body
from {schema}.events as e
where
    e.recorded_at >= %(starts_at)s
    and e.recorded_at < %(ends_at)s
    and (e.thread_id, e.checkpoint_ns, e.seq) > (%(thread_id)s, %(checkpoint_ns)s, %(seq)s)
order by e.thread_id, e.checkpoint_ns, e.seq
limit %(rows)s
