select {schema}.carry_events_v1(%s, %s, %s, %s, %s, %s, %s)
