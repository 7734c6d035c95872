select {schema}.clock_v1() - %s::interval as at
