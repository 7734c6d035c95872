select {schema}.take_over_v1()
