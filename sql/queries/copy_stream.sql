select o_events, o_checkpoints from {schema}.copy_stream_v1(%s, %s, %s, %s, %s, %s, %s, %s::jsonb)
