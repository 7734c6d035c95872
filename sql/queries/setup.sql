-- Setting up the schema.

-- name: setup_state
-- Whether the schema was set up, and settings of the session. Not by to_regclass, which fails if the user may not use
-- the schema: the user should be told which grants are missing instead.
select
    exists(
        select 1 from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = %s and c.relname = 'migrations'
    ) as is_set_up,
    pg_catalog.current_setting('server_encoding') as encoding,
    pg_catalog.current_setting('lock_timeout') as lock_timeout,
    pg_catalog.current_setting('check_function_bodies') as check_bodies,
    pg_catalog.current_setting('search_path') as search_path;

-- name: setup_settings
-- Settings for one script, or the settings from before it.
select
    pg_catalog.set_config('lock_timeout', %s, true), pg_catalog.set_config('check_function_bodies', %s, true),
    pg_catalog.set_config('search_path', %s, true);

-- name: setup_rights
-- The user, and whether the user may create the schema or, if it exists, tables in it.
select
    current_user::text as username, pg_catalog.current_database()::text as database, n.oid is not null as is_there,
    case
        when n.oid is null then pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create')
        else pg_catalog.has_schema_privilege(n.oid, 'create') and pg_catalog.has_schema_privilege(n.oid, 'usage')
    end as may_create
from (values (%s::text)) as w (name)
left join pg_catalog.pg_namespace as n on w.name = n.nspname;

-- name: create_schema
-- Creates the schema.
create schema {schema};

-- name: create_migrations
-- Creates the table of applied migrations and functions, which every other script needs.
create table {schema}.migrations (
    name text collate "C" primary key,
    checksum text not null,
    revision integer,
    applied_at timestamptz not null default pg_catalog.clock_timestamp(),
    applied_by text not null default session_user
);

-- name: applied_scripts
-- The migrations and functions that were applied.
select m.name, m.checksum, m.revision
from {schema}.migrations as m;

-- name: lock_holders
-- The sessions that hold locks on tables of the log, oldest transaction first. For other users' sessions, only process,
-- user and application are visible.
select
    l.pid, a.usename as username, a.application_name, a.state, p.gid as prepared_as,
    extract(epoch from pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared))::bigint as seconds,
    pg_catalog.array_agg(distinct c.relname::text order by c.relname::text) as tables
from pg_catalog.pg_locks as l
inner join pg_catalog.pg_class as c on l.relation = c.oid and c.relkind in ('r', 'p')
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid and n.nspname = %s
left join pg_catalog.pg_stat_activity as a on l.pid = a.pid
-- A prepared transaction has no process, but holds a lock on its own id.
left join pg_catalog.pg_locks as t
    on l.pid is null and t.pid is null and l.virtualtransaction = t.virtualtransaction and t.locktype = 'transactionid'
left join pg_catalog.pg_prepared_xacts as p on t.transactionid = p.transaction
inner join pg_catalog.pg_database as d on l.database = d.oid and d.datname = pg_catalog.current_database()
where l.granted and l.pid is distinct from pg_catalog.pg_backend_pid()
group by l.pid, a.usename, a.application_name, a.state, a.xact_start, p.prepared, p.gid
order by coalesce(a.xact_start, p.prepared) nulls last
limit 3;

-- name: lock_holder
-- The sessions that hold an advisory lock.
select l.pid, a.usename::text as username, a.application_name
from pg_catalog.pg_locks as l
inner join pg_catalog.pg_database as d on l.database = d.oid and d.datname = pg_catalog.current_database()
left join pg_catalog.pg_stat_activity as a on l.pid = a.pid
where
    l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and (l.classid::bigint << 32) | l.objid::bigint = pg_catalog.hashtextextended(%s, 0);

-- name: put_script
-- Notes that a script was applied.
insert into {schema}.migrations as m (name, checksum, revision)
values (%s, %s, %s)
on conflict (name) do update set
    checksum = excluded.checksum, revision = excluded.revision, applied_at = excluded.applied_at,
    applied_by = excluded.applied_by;

-- name: grant_rights
-- Grants a set of rights to a role; with nulls, repeats all remembered grants.
select {schema}.grant_rights_v1(%s, %s, %s);

-- name: open_schemas
-- The schemas on the search path in which every user may create objects, and whether names are looked up there before
-- pg_catalog.
select n.nspname::text as schema, p.number < coalesce(pg_catalog.array_position(p.path, 'pg_catalog'), 0) as is_first
from (
    select c.path, s.name, s.number
    from (select pg_catalog.current_schemas(true) as path) as c
    cross join lateral pg_catalog.unnest(c.path) with ordinality as s (name, number)
) as p
inner join pg_catalog.pg_namespace as n on p.name = n.nspname
where
    not pg_catalog.starts_with(n.nspname::text, 'pg_')
    and exists (
        select 1 from pg_catalog.aclexplode(n.nspacl) as a
        where a.grantee = 0::oid and a.privilege_type = 'CREATE'
    )
order by p.number;

-- name: put_settings
-- Stores the given settings; null keeps the stored one.
update {schema}.settings as s
set
    partition_interval = coalesce(%(partition_interval)s::text, s.partition_interval),
    partitions_ahead = coalesce(%(partitions_ahead)s::integer, s.partitions_ahead)
where
    s.partition_interval <> %(partition_interval)s::text
    or s.partitions_ahead <> %(partitions_ahead)s::integer;
