select r.finished_at is not null
from {schema}.rebuilds as r
where r.id = %s and r.claim = %s
for share
