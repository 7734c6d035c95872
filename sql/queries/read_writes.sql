select e.seq, e.base_seq, e.recorded_at, e.body
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.checkpoint_id = %s
    and e.kind = 2
order by e.seq
