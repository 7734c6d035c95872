-- Receiving another log by logical replication.

-- name: subscriber
-- Whether the log is a subscriber, and which subscriptions feed its tables.
select
    {schema}.is_subscriber_v1() as is_subscriber,
    array(
        select distinct s.subname::text
        from pg_catalog.pg_subscription_rel as r
        inner join pg_catalog.pg_subscription as s on r.srsubid = s.oid
        inner join pg_catalog.pg_class as c on r.srrelid = c.oid
        where c.relnamespace = '{schema}'::regnamespace::oid
        order by 1
    ) as subscriptions;

-- name: make_subscriber
-- Prepares an empty log to receive another one.
select {schema}.make_subscriber_v1();

-- name: take_over
-- Ends a log's time as a subscriber.
select {schema}.take_over_v1();
