select
    p.name, p.version, p.source, p.generation, p.xid::text::bigint as xid, p.position, p.events, p.started_at,
    p.applied_at, p.caught_up_at
from {schema}.projections as p
where %(name)s::text is null or p.name = %(name)s
order by p.name
