-- A time that no seal can have may be one that the client's language does not have.
select
    s.number, s.streams, s.changed, s.root, s.changes, s.previous, s.digest, s.by, s.actor,
    case
        when s.sealed_at between '2000-01-01 00:00Z' and '5000-01-01 00:00Z' then s.sealed_at
        else '2000-01-01 00:00Z'
    end as sealed_at
from {schema}.seals as s
where s.number > %(after)s
order by s.number
limit %(rows)s
