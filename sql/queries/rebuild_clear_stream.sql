delete from {schema}.streams_rebuilt as r
where r.thread_id = %s and r.checkpoint_ns = %s
