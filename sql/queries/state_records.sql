-- What was erased from a stream, oldest first.
select e.seq, e.checkpoint_id, e.body, e.recorded_at > %(time)s as is_later
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where
    e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s and e.kind in (3, 4)
    and e.recorded_at >= coalesce(s.begins_at, '-infinity')
order by e.seq
