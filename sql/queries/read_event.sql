select e.seq, e.base_seq, e.recorded_at, e.body, s.body as snapshot
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
left join {schema}.snapshots as s
    on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns and e.seq = s.seq
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.seq = %s
    and e.kind = 1
    and e.recorded_at >= coalesce(t.begins_at, '-infinity')
