-- Whether the log is a replica, and which subscriptions bring it what it has.
select
    {schema}.is_replica_v1() as is_replica,
    array(
        select distinct s.subname::text
        from pg_catalog.pg_subscription_rel as r
        inner join pg_catalog.pg_subscription as s on r.srsubid = s.oid
        inner join pg_catalog.pg_class as c on r.srrelid = c.oid
        where c.relnamespace = '{schema}'::regnamespace
        order by 1
    ) as subscriptions
