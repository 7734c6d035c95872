select s.body from {schema}.snapshots as s
where s.thread_id = %s and s.checkpoint_ns = %s and s.seq = %s
