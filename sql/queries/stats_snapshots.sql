select count(*) as rows, coalesce(sum(octet_length(n.body)), 0)::bigint as bytes
from {schema}.snapshots as n
