select {schema}.make_replica_v1()
