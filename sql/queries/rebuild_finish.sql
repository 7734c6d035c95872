update {schema}.rebuilds as r
set finished_at = clock_timestamp(), seen_at = clock_timestamp(), keeps_old = %s
where r.id = %s
