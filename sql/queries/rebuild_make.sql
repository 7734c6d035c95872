select {schema}.make_rebuilt_v1()
