-- Custom projections: their cursors.

-- name: project_state
-- How far projections have come: one, or all.
select
    p.name, p.version, p.source, p.generation, p.xid::text::bigint as xid, p.position, p.events, p.started_at,
    p.applied_at, p.caught_up_at
from {schema}.projections as p
where %(name)s::text is null or p.name = %(name)s
order by p.name;

-- name: lock_projection
-- Locks a projection until the transaction ends.
select {schema}.lock_projection_v1(%s);

-- name: start_projection
-- Sets a projection to the beginning of the feed.
select {schema}.start_projection_v1(%s, %s, %s);

-- name: advance_projection
-- Moves a projection's cursor.
select
    {schema}.advance_projection_v1(
        %(name)s, %(generation)s, %(xid)s::text::xid8, %(position)s, %(events)s, %(is_end)s
    );

-- name: forget_projection
-- Removes a projection.
select {schema}.forget_projection_v1(%s);
