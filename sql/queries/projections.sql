-- Custom projections: their cursors.

-- name: project_state
-- The cursors of projections: of one, or of all.
select
    p.name, p.version, p.source, p.generation, p.xid::text::bigint as xid, p.position, p.cursor, p.events,
    p.started_at, p.applied_at, p.caught_up_at, p.tables,
    (
        select pg_catalog.count(*) from {schema}.set_aside as s
        where s.projection = p.name
    ) as set_aside
from {schema}.projections as p
where %(name)s::text is null or p.name = %(name)s
order by p.name;

-- name: lock_projection
-- Locks a projection until the transaction ends.
select {schema}.lock_projection_v1(%s);

-- name: start_projection
-- Sets a projection to the beginning of the feed.
select {schema}.start_projection_v1(%s, %s, %s, %s::text[]);

-- name: projection_tables
-- Tables by the names that a projection gives, completed by the search path; null for a table that does not exist.
select
    t.name,
    (
        select pg_catalog.format('%%I.%%I', n.nspname, c.relname)
        from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where c.oid = pg_catalog.to_regclass(t.name)::oid and c.relkind in ('r', 'm')
    ) as full_name
from pg_catalog.unnest(%s::text[]) as t (name);

-- name: projection_view
-- Whether each of a view's tables, given by full name, exists, and whether its file is empty; and the log's newest
-- generation.
select
    t.name, c.oid is not null as is_there, coalesce(pg_catalog.pg_relation_size(c.oid) = 0, false) as is_empty,
    (select pg_catalog.max(g.generation) from {schema}.generations as g) as newest
from pg_catalog.unnest(%s::text[]) as t (name)
left join pg_catalog.pg_class as c on c.oid = pg_catalog.to_regclass(t.name)::oid;

-- name: advance_projection
-- Moves a projection's cursor.
select
    {schema}.advance_projection_v1(
        %(name)s, %(generation)s, %(xid)s::text::xid8, %(position)s, %(events)s, %(is_end)s, %(cursor)s::text
    );

-- name: set_aside
-- Sets an event aside.
select
    {schema}.set_aside_v1(
        %(name)s, %(thread_id)s, %(checkpoint_ns)s, %(seq)s, %(generation)s, %(xid)s::bigint::text::xid8, %(position)s,
        %(is_replay)s, %(error)s, %(cursor)s::text
    );

-- name: take_back
-- Removes an event that was set aside.
select {schema}.take_back_v1(%s, %s, %s, %s);

-- name: read_set_aside
-- Events that were set aside (of one projection, of one stream; null: of all) after a place, in the order of projection
-- names and of the feed.
select
    s.projection, s.thread_id, s.checkpoint_ns, s.seq, s.generation, s.xid::text::bigint as xid, s.position,
    s.cursor, s.is_replay, s.error, s.set_aside_at
from {schema}.set_aside as s
where
    (%(name)s::text is null or s.projection = %(name)s)
    and (%(thread_id)s::text is null or s.thread_id = %(thread_id)s and s.checkpoint_ns = %(checkpoint_ns)s)
    and (
        %(generation)s::integer is null
        or (s.generation, s.xid, s.position)
        > (%(generation)s::integer, %(xid)s::bigint::text::xid8, %(position)s::bigint)
    )
order by s.projection, s.generation, s.xid, s.position
limit %(rows)s;

-- name: feed_event
-- One event by its number, as the feed returns it.
select
    e.seq, e.base_seq, e.recorded_at, e.body, e.kind, e.checkpoint_id, e.checkpoint_ns, e.thread_id, e.position,
    e.digest, e.as_of, null::timestamptz as first_at, e.xid::text::bigint as xid
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.seq = %s
    and e.recorded_at >= coalesce(t.begins_at, '-infinity')
order by e.recorded_at desc
limit 1;

-- name: forget_projection
-- Deletes a projection's cursor.
select {schema}.forget_projection_v1(%s);
