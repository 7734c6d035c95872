select s.thread_id, s.checkpoint_ns
from {schema}.streams as s
where (s.thread_id, s.checkpoint_ns) >= (%(thread)s, %(ns)s)
order by s.thread_id, s.checkpoint_ns
limit %(rows)s
