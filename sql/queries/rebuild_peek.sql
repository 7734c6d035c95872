-- When somebody last worked on a rebuild; no row while somebody does.
select r.seen_at
from {schema}.rebuilds as r
where r.id = %s and r.finished_at is null
for update skip locked
