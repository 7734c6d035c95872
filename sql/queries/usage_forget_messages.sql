delete from {schema}.usage_messages as m
where m.thread_id = %s and m.checkpoint_ns = %s and m.seq >= %s and m.seq < %s
