insert into {schema}.snapshots (thread_id, checkpoint_ns, seq, recorded_at, body)
values (%s, %s, %s, %s, %s)
