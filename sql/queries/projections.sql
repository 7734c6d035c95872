-- Custom projections: their cursors.

-- name: project_state
-- How far projections have come: one, or all.
select
    p.name, p.version, p.source, p.generation, p.xid::text::bigint as xid, p.position, p.events, p.started_at,
    p.applied_at, p.caught_up_at
from {schema}.projections as p
where %(name)s::text is null or p.name = %(name)s
order by p.name;

-- name: project_start
-- Sets a projection to the beginning of the feed.
insert into {schema}.projections as p (name, version, source, started_at)
values (%s, %s, %s, {schema}.clock_v1())
on conflict (name) do update set
    version = excluded.version, source = excluded.source, generation = null, xid = null, position = null, events = 0,
    started_at = excluded.started_at, applied_at = null, caught_up_at = null;

-- name: project_advance
-- Moves a projection's cursor.
update {schema}.projections as p
set
    generation = %(generation)s,
    xid = %(xid)s::text::xid8,
    position = %(position)s,
    events = p.events + %(events)s,
    applied_at = {schema}.clock_v1(),
    caught_up_at = case when %(is_end)s then coalesce(p.caught_up_at, {schema}.clock_v1()) else p.caught_up_at end
where p.name = %(name)s
returning p.name;

-- name: project_forget
-- Removes a projection.
delete from {schema}.projections as p
where p.name = %s
returning p.name;
