-- Distributing the log over the nodes of a Citus cluster. Only `setup(citus=True)` runs these; Citus's tables and
-- functions exist there alone.

-- name: citus_version
-- The version of the extension in this database.
select e.extversion from pg_catalog.pg_extension as e
where e.extname = 'citus';

-- name: citus_nodes
-- Whether this is the coordinator, and how many nodes may hold shards.
select
    (select l.groupid = 0 from pg_catalog.pg_dist_local_group as l) as is_coordinator,
    (
        select pg_catalog.count(*) from pg_catalog.pg_dist_node as n
        where n.isactive and n.shouldhaveshards and n.noderole = 'primary'
    ) as nodes;

-- name: citus_tables
-- The log's tables: how Citus distributes each (h: by thread, n: a copy on each node, null: not at all), its number of
-- shards, and whether its rows from before the distribution are still stored on the coordinator too.
select
    c.relname::text as name, d.partmethod::text as method,
    (
        select pg_catalog.count(*) from pg_catalog.pg_dist_shard as s
        where s.logicalrelid = c.oid::pg_catalog.regclass
    ) as shards,
    d.partmethod = 'h' and (
        select pg_catalog.sum(pg_catalog.pg_relation_size(t.relid)) > 0
        from pg_catalog.pg_partition_tree(c.oid::pg_catalog.regclass) as t
        where t.isleaf
    ) as has_local_rows
from pg_catalog.pg_class as c
left join pg_catalog.pg_dist_partition as d on d.logicalrelid = c.oid::pg_catalog.regclass
where
    c.relnamespace = (
        select n.oid from pg_catalog.pg_namespace as n
        where n.nspname = %s
    )
    and c.relkind in ('r', 'p') and not c.relispartition;

-- name: distribute_first
-- Distributes the table of streams by thread.
select pg_catalog.create_distributed_table('{schema}.streams', 'thread_id', colocate_with => 'none', shard_count => %s);

-- name: distribute_table
-- Distributes another table by thread, each shard beside that of the streams.
select pg_catalog.create_distributed_table(%s, 'thread_id', colocate_with => '{schema}.streams');

-- name: copy_to_nodes
-- Keeps a copy of a small table on each node.
select pg_catalog.create_reference_table(%s);

-- name: index_origins
-- Replaces the index of the feed: transaction ids belong to the node that gave them, which a position's highest bits
-- name.
do $do$
begin
    create index events_origin_idx on {schema}.events ((position >> 48), xid, position);
    drop index {schema}.events_tail_idx;
end
$do$;

-- name: delete_local_rows
-- Deletes the rows of a distributed table that are still stored on the coordinator, from before the distribution.
select pg_catalog.truncate_local_data_after_distributing_table(%s);

-- name: drop_guards
-- Drops the triggers that guard against accidents: Citus distributes no table that has triggers.
do $do$
declare
    v_trigger record;
begin
    for v_trigger in
        select t.tgname, t.tgrelid::pg_catalog.regclass as relation
        from pg_catalog.pg_trigger as t
        inner join pg_catalog.pg_class as c on t.tgrelid = c.oid
        where
            c.relnamespace = '{schema}'::pg_catalog.regnamespace and not t.tgisinternal and t.tgparentid = 0::pg_catalog.oid
            and t.tgname in ('events_immutable', 'events_not_truncated', 'streams_lost')
    loop
        execute pg_catalog.format('drop trigger %I on %s', v_trigger.tgname, v_trigger.relation);
    end loop;
end
$do$;

-- name: distribute_functions
-- Makes every function known to all nodes.
select {schema}.distribute_functions_v1(%s);

-- name: is_distributed
-- Whether the log is distributed.
select {schema}.is_distributed_v1();
