delete from {schema}.usage_messages as m
where m.thread_id = %s and m.checkpoint_ns = %s and m.seq >= %s and m.seq < %s
returning m.run_id, m.input_tokens, m.output_tokens, m.total_tokens
