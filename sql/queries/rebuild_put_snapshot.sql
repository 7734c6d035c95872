insert into {schema}.snapshots_rebuilt (thread_id, checkpoint_ns, seq, recorded_at, body)
values (%s, %s, %s, %s, %s)
