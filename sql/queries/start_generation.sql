select g.o_generation from {schema}.start_generation_v1() as g
