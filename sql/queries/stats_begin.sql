select min(m.applied_at) as set_up_at, {schema}.clock_v1() as now
from {schema}.migrations as m
