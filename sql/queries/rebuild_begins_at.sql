-- What the stream recorded before is void.
select max(e.as_of)
from {schema}.events as e
where e.thread_id = %s and e.checkpoint_ns = %s and e.kind > 2
