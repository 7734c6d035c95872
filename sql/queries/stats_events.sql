select
    count(*) as rows,
    coalesce(sum(octet_length(e.body)), 0)::bigint as bytes,
    count(*) filter (where e.recorded_at >= %(since)s) as recent_rows,
    coalesce(sum(octet_length(e.body)) filter (where e.recorded_at >= %(since)s), 0)::bigint as recent_bytes
from {schema}.events as e
