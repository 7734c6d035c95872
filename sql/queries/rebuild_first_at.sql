select r.checkpoint_id, r.first_at
from {schema}.checkpoints_rebuilt as r
where r.thread_id = %s and r.checkpoint_ns = %s and r.checkpoint_id = any(%s)
