-- Which numbers of a stream's beginning are there.
select e.seq
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where
    e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s and e.seq < %(next_seq)s
    and e.recorded_at >= coalesce(s.begins_at, '-infinity')
