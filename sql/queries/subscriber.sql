-- Receiving another log by logical replication.

-- name: replica
-- Whether the log is a replica, and which subscriptions bring it what it has.
select
    {schema}.is_replica_v1() as is_replica,
    array(
        select distinct s.subname::text
        from pg_catalog.pg_subscription_rel as r
        inner join pg_catalog.pg_subscription as s on r.srsubid = s.oid
        inner join pg_catalog.pg_class as c on r.srrelid = c.oid
        where c.relnamespace = '{schema}'::regnamespace::oid
        order by 1
    ) as subscriptions;

-- name: make_replica
-- Makes the log ready to receive another one.
select {schema}.make_replica_v1();

-- name: take_over
-- Ends a log's time as a replica.
select {schema}.take_over_v1();
