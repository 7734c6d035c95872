select dropped from {schema}.drop_elsewhere_dropped_v1() as dropped
