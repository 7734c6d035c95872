select {schema}.swap_rebuilt_v1(%s)
