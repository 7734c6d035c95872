select min(m.applied_at) as set_up_at, clock_timestamp() as now
from {schema}.migrations as m
