select distinct e.thread_id, e.checkpoint_ns
from {schema}.events as e
left join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where s.seq is null and (%(threads)s::text[] is null or e.thread_id = any(%(threads)s::text[]))
order by e.thread_id, e.checkpoint_ns
