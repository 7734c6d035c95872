delete from {schema}.snapshots_rebuilt as r
where r.thread_id = %s and r.checkpoint_ns = %s
