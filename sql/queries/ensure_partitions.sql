select made from {schema}.ensure_partitions_v1({schema}.clock_v1(), %s, %s) as made
