-- The writes of a checkpoint that were there at a time.
select e.seq, e.base_seq, e.recorded_at, e.body
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
where
    e.thread_id = %(thread_id)s
    and e.checkpoint_ns = %(checkpoint_ns)s
    and e.checkpoint_id = %(checkpoint_id)s
    and e.kind = 2
    and e.recorded_at >= coalesce(t.begins_at, '-infinity')
    and coalesce(e.as_of, e.recorded_at) <= %(time)s
order by e.seq
