select {schema}.delete_thread_v1(%s)
