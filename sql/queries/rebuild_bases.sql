-- Until which event the state at each base is needed.
select e.base_seq, max(e.seq)
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.base_seq is not null
    and e.kind = 1
group by e.base_seq
