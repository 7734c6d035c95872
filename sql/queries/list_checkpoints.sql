select c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.state_bytes
from {schema}.checkpoints as c
where {where}
order by c.checkpoint_id desc, c.thread_id desc, c.checkpoint_ns desc
limit %(rows)s
