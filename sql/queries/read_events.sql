select e.seq, e.base_seq, e.recorded_at, e.body
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.seq = any(%s)
    and e.recorded_at >= coalesce(t.begins_at, '-infinity')
order by e.seq
