select
    p.name, p.starts_at, p.ends_at,
    greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid), 0) as rows,
    pg_total_relation_size(c.oid) as bytes
from {schema}.partitions as p
inner join pg_catalog.pg_class as c on p.name = c.relname and c.relnamespace = '{schema}'::regnamespace
where p.dropped_at is null
order by p.starts_at
