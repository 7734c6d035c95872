select c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.run_id
from unnest(%s::text[], %s::text[], %s::text[]) as n (thread_id, checkpoint_ns, checkpoint_id)
inner join {schema}.checkpoints as c
    on n.thread_id = c.thread_id and n.checkpoint_ns = c.checkpoint_ns and n.checkpoint_id = c.checkpoint_id
