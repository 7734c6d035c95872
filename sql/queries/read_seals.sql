select s.number, s.sealed_at, s.streams, s.changed, s.root, s.changes, s.previous, s.digest, s.by, s.actor
from {schema}.seals as s
where s.number < coalesce(%(before)s::bigint, s.number + 1) and s.number = coalesce(%(number)s::bigint, s.number)
order by s.number desc
limit %(rows)s
