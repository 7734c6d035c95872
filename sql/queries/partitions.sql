-- Making, listing, archiving and dropping partitions of the log.

-- name: owner
-- The role that owns the log, and whether the user may act as it.
select pg_has_role(c.relowner, 'usage') as is_owner, pg_get_userbyid(c.relowner)::text as owner
from pg_catalog.pg_class as c
where c.oid = '{schema}.events'::regclass;

-- name: partitions
-- The partitions that there are.
select
    p.name, p.starts_at, p.ends_at,
    greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid), 0) as rows,
    pg_total_relation_size(c.oid) as bytes
from {schema}.partitions as p
inner join pg_catalog.pg_class as c on p.name = c.relname and c.relnamespace = '{schema}'::regnamespace
where p.dropped_at is null
order by p.starts_at;

-- name: count_partitions
-- How many events each partition has.
select c.relname::text, count(*) as rows
from {schema}.events as e
inner join pg_catalog.pg_class as c on e.tableoid = c.oid
group by c.relname;

-- name: time_before
-- The time that lies an interval before now, by the database's clock.
select {schema}.clock_v1() - %s::interval as at;

-- name: ensure_partitions
-- Makes the partitions for now and a number of intervals ahead.
select made from {schema}.ensure_partitions_v1({schema}.clock_v1(), %s, %s) as made;

-- name: ensure_partitions_of
-- Those that a thread's next events are to go to, where its streams are ahead of the clock.
select e.made
from (
    select distinct date_trunc('day', s.updated_at, 'UTC') as at
    from {schema}.streams as s
    where s.thread_id = %s and s.updated_at > {schema}.clock_v1()
) as d
cross join lateral {schema}.ensure_partitions_v1(d.at, 0, %s) as e (made);

-- name: lock_partition
-- Locks a partition against being dropped.
select p.name
from {schema}.partitions as p
where p.name = %s and p.dropped_at is null
for update;

-- name: archive_events
-- The next events of a partition, as many as their bodies allow, one at least.
select
    p.thread_id, p.checkpoint_ns, p.seq, p.recorded_at, p.position, p.kind, p.checkpoint_id, p.base_seq, p.as_of,
    p.first_at, p.digest, p.body
from (
    select
        e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.position, e.kind, e.checkpoint_id, e.base_seq, e.as_of,
        e.first_at, e.digest, e.body,
        row_number() over (order by e.thread_id, e.checkpoint_ns, e.seq) as number,
        sum(octet_length(e.body)) over (order by e.thread_id, e.checkpoint_ns, e.seq) as bytes
    from {schema}.events as e
    where
        e.recorded_at >= %(starts_at)s
        and e.recorded_at < %(ends_at)s
        and (e.thread_id, e.checkpoint_ns, e.seq) > (%(thread_id)s, %(checkpoint_ns)s, %(seq)s)
    order by e.thread_id, e.checkpoint_ns, e.seq
    limit %(rows)s
) as p
where p.number = 1 or p.bytes <= %(bytes)s
order by p.thread_id, p.checkpoint_ns, p.seq;

-- name: drop_partition
-- Drops a partition.
select o_dropped, o_rows, o_bytes from {schema}.drop_partition_v1(%s, %s);
