select distinct e.thread_id, e.checkpoint_ns from {schema}.events as e
order by e.thread_id, e.checkpoint_ns
