select p.name
from {schema}.partitions as p
where p.name = %s and p.dropped_at is null
for update
