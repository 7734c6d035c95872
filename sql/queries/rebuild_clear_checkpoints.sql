delete from {schema}.checkpoints_rebuilt as r
where
    r.thread_id = %(thread_id)s and r.checkpoint_ns = %(checkpoint_ns)s
    and (%(ids)s::text[] is null or r.checkpoint_id = any(%(ids)s::text[]))
