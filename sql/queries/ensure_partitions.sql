select made from {schema}.ensure_partitions_v1(clock_timestamp(), %s, %s) as made
