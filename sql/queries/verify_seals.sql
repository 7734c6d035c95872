select s.number, s.sealed_at, s.streams, s.changed, s.root, s.changes, s.previous, s.digest, s.by, s.actor
from {schema}.seals as s
where s.number > %(after)s
order by s.number
limit %(rows)s
