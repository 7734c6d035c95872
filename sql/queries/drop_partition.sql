select o_dropped, o_rows, o_bytes from {schema}.drop_partition_v1(%s, %s)
