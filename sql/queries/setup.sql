-- Setting up the schema.

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
