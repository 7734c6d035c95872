select o_is_idle, o_events, o_checkpoints, o_bytes from {schema}.delete_thread_v1(%s, %s, %s, %s, %s)
