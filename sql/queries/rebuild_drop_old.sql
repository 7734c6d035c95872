select dropped from {schema}.drop_old_v1() as dropped
