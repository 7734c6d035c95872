-- Every transaction below is over; which partitions were dropped so far.
select
    pg_snapshot_xmin(pg_current_snapshot())::text,
    coalesce(md5(string_agg(p.name || ' ' || p.dropped_at, ',' order by p.name)), '')
from {schema}.partitions as p
where p.dropped_at is not null
