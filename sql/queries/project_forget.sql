delete from {schema}.projections as p
where p.name = %s
returning p.name
