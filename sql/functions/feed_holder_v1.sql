-- Returns the transaction that holds the feed back: the oldest of this server that has written and not ended. A session
-- or, with its name in o_prepared_as, a prepared transaction; without rows, none is known.
--
-- Transaction ids in these views have 32 bits.
create or replace function {schema}.feed_holder_v1(p_xmin xid8) returns table (
    o_pid integer, o_user name, o_database name, o_application text, o_state text, o_started_at timestamptz,
    o_query text, o_prepared_as text
)
language plpgsql stable set search_path = pg_catalog, pg_temp as $function$
begin
    return query
    select r.pid, r.username, r.database, r.application, r.state, r.started_at, r.query, r.prepared_as
    from (
        select
            a.backend_xid as xid, a.pid, a.usename as username, a.datname as database, a.application_name as application,
            a.state, a.xact_start as started_at,
            -- For a process of another user, a user without the right to see it gets a note here instead.
            case when a.state is not null then a.query end as query,
            null::text as prepared_as, a.leader_pid is not null as is_worker
        from pg_stat_activity as a
        where a.backend_xid is not null
        union all
        select p.transaction, null, p.owner, p.database, null, 'prepared', p.prepared, null, p.gid, false
        from pg_prepared_xacts as p
    ) as r
    where r.xid::text::numeric = mod(p_xmin::text::numeric, 4294967296)
    order by r.is_worker
    limit 1;
end
$function$;
