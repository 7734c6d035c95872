select distinct c.thread_id
from {schema}.checkpoints as c
where c.run_id = any(%s)
order by c.thread_id
