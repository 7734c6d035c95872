-- The checkpoints of a thread that were put more than once, each with the number of the first time.
select e.checkpoint_ns, e.checkpoint_id, min(e.seq) as first_seq
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where e.thread_id = %s and e.kind = 1 and e.recorded_at >= coalesce(s.begins_at, '-infinity')
group by e.checkpoint_ns, e.checkpoint_id
having count(*) > 1
