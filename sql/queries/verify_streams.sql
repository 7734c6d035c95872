select s.thread_id, s.checkpoint_ns
from {schema}.streams as s
where
    (s.thread_id, s.checkpoint_ns) > (%(thread)s, %(ns)s)
    and (%(threads)s::text[] is null or s.thread_id = any(%(threads)s::text[]))
order by s.thread_id, s.checkpoint_ns
limit %(rows)s
