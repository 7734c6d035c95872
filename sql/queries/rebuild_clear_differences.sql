delete from {schema}.rebuild_differences as d
where d.rebuild_id = %s and d.thread_id = %s and d.checkpoint_ns = %s
