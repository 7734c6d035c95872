-- Creating, listing, archiving and dropping partitions of the log.

-- name: owner
-- The role that owns the log, and whether the user may act as it.
select pg_catalog.pg_has_role(c.relowner, 'usage') as is_owner, pg_catalog.pg_get_userbyid(c.relowner)::text as owner
from pg_catalog.pg_class as c
where c.oid = '{schema}.events'::regclass::oid;

-- name: may_drop
-- Whether the user may drop partitions.
select
    pg_catalog.has_function_privilege('{schema}.drop_partition_v1(text, text, bytea)', 'execute') as may,
    session_user::text as username;

-- name: partitions
-- The existing partitions. Their rows are estimated (relation_size_v1).
with there as materialized (
    select p.name, p.starts_at, p.ends_at, c.oid
    from {schema}.partitions as p
    inner join pg_catalog.pg_class as c on p.name = c.relname and c.relnamespace = '{schema}'::regnamespace::oid
    where p.dropped_at is null
)

select t.name, t.starts_at, t.ends_at, z.o_rows, z.o_bytes
from there as t
inner join {schema}.relation_sizes_v1(array(select w.oid from there as w)) as z on t.oid = z.o_relation
order by t.starts_at;

-- name: count_partitions
-- How many events each partition has.
select p.name, pg_catalog.count(*) as rows
from {schema}.events as e
inner join {schema}.partitions as p on e.recorded_at >= p.starts_at and e.recorded_at < p.ends_at
where p.dropped_at is null
group by p.name;

-- name: time_before
-- The time an interval ago, by the database's clock.
select {schema}.clock_v1() - %s::interval as at;

-- name: ensure_partitions
-- Creates the missing partitions for now and a number of intervals ahead. Only the owner may choose that number.
select e.made
from {schema}.settings as s
cross join lateral {schema}.ensure_partitions_v1({schema}.clock_v1(), %s, s.partition_interval) as e (made);

-- name: extend_partitions
-- Creates the missing partitions for now and the stored number ahead, or those for a thread's next events.
select e.made from {schema}.extend_partitions_v1(%s) as e (made);

-- name: lock_partition
-- Locks a partition against being dropped.
select {schema}.lock_partition_v1(%s);

-- name: archive_events
-- The next events of a partition: at least one, and as many as the limit on bodies allows.
select
    p.thread_id, p.checkpoint_ns, p.seq, p.recorded_at, p.position, p.kind, p.checkpoint_id, p.base_seq, p.as_of,
    p.first_at, p.digest, p.body
from (
    select
        e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.position, e.kind, e.checkpoint_id, e.base_seq, e.as_of,
        e.first_at, e.digest, e.body,
        pg_catalog.row_number() over (order by e.thread_id, e.checkpoint_ns, e.seq) as number,
        pg_catalog.sum(pg_catalog.octet_length(e.body)) over (order by e.thread_id, e.checkpoint_ns, e.seq) as bytes
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
select o_dropped, o_rows, o_bytes from {schema}.drop_partition_v1(%s, %s, %s);

-- name: dropped_partition
-- The record of a partition, of its drop and of its archive.
select p.starts_at, p.ends_at, p.dropped_rows, p.dropped_at, p.dropped_by, p.archive
from {schema}.partitions as p
where p.name = %s;
