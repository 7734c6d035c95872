select c.relname::text, count(*) as rows
from {schema}.events as e
inner join pg_catalog.pg_class as c on e.tableoid = c.oid
group by c.relname
