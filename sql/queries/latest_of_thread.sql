select s.checkpoint_ns, s.latest_checkpoint_id
from {schema}.streams as s
where s.thread_id = %s
order by s.checkpoint_ns
