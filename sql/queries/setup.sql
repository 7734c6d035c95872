-- Setting up the schema.

-- name: setup_state
-- Whether the schema was set up, and settings of the session. Not with to_regclass: it fails in a schema that the user
-- may not use, where the answer is which grants are missing.
select
    exists(
        select 1 from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = %s and c.relname = 'migrations'
    ) as is_set_up,
    current_setting('server_encoding') as encoding, current_setting('lock_timeout') as lock_timeout,
    current_setting('check_function_bodies') as check_bodies;

-- name: setup_rights
-- The user, and whether the user may make the schema, or tables in it where it exists.
select
    current_user::text as username, current_database()::text as database, n.oid is not null as is_there,
    case
        when n.oid is null then has_database_privilege(current_database(), 'create')
        else has_schema_privilege(n.oid, 'create') and has_schema_privilege(n.oid, 'usage')
    end as may_create
from (values (%s::text)) as w (name)
left join pg_catalog.pg_namespace as n on w.name = n.nspname;

-- name: create_schema
-- The schema.
create schema {schema};

-- name: create_migrations
-- The table of applied migrations and functions, which every other script needs.
create table {schema}.migrations (
    name text collate "C" primary key,
    checksum text not null,
    revision integer,
    applied_at timestamptz not null default clock_timestamp(),
    applied_by text not null default session_user
);

-- name: applied_scripts
-- The migrations and functions that were applied.
select m.name, m.checksum, m.revision
from {schema}.migrations as m;

-- name: lock_holders
-- Who has locks on tables of the log, the oldest transaction first. Of other users one may see only process, user and
-- application.
select
    l.pid, a.usename as username, a.application_name, a.state, p.gid as prepared_as,
    extract(epoch from pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared))::bigint as seconds,
    array_agg(distinct c.relname::text order by c.relname::text) as tables
from pg_catalog.pg_locks as l
inner join pg_catalog.pg_class as c on l.relation = c.oid and c.relkind in ('r', 'p')
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid and n.nspname = %s
left join pg_catalog.pg_stat_activity as a on l.pid = a.pid
-- A prepared transaction has no process, but a lock on its own id.
left join pg_catalog.pg_locks as t
    on l.pid is null and t.pid is null and l.virtualtransaction = t.virtualtransaction and t.locktype = 'transactionid'
left join pg_catalog.pg_prepared_xacts as p on t.transactionid = p.transaction
inner join pg_catalog.pg_database as d on l.database = d.oid and d.datname = current_database()
where l.granted and l.pid is distinct from pg_backend_pid()
group by l.pid, a.usename, a.application_name, a.state, a.xact_start, p.prepared, p.gid
order by coalesce(a.xact_start, p.prepared) nulls last
limit 3;

-- name: put_script
-- Notes that a script was applied.
insert into {schema}.migrations as m (name, checksum, revision)
values (%s, %s, %s)
on conflict (name) do update set
    checksum = excluded.checksum, revision = excluded.revision, applied_at = clock_timestamp(),
    applied_by = session_user;
