select p.starts_at, p.ends_at
from {schema}.partitions as p
where p.dropped_at is null
