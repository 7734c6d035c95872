-- Distributing the log over the nodes of a Citus cluster. Only `setup(citus=True)` runs these; Citus's tables and
-- functions exist there alone.

-- name: citus_version
-- The version of the extension in this database.
select e.extversion from pg_catalog.pg_extension as e
where e.extname = 'citus';

-- name: is_coordinator
-- Whether this is the cluster's coordinator.
select l.groupid = 0 from pg_catalog.pg_dist_local_group as l;

-- name: citus_nodes
-- How many nodes may hold shards.
select pg_catalog.count(*) from pg_catalog.pg_dist_node as n
where n.isactive and n.shouldhaveshards and n.noderole = 'primary';

-- name: owner_may_log_in
-- Whether the log's owner may log in.
select r.rolcanlogin from pg_catalog.pg_class as c
inner join pg_catalog.pg_roles as r on c.relowner = r.oid
where c.oid = '{schema}.streams'::pg_catalog.regclass;

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

-- name: purge_holders_on_nodes
-- As purge_holders, on each node that has an erasure's record: a row of the record has the transaction id of its node.
-- A node that does not answer may have holders.
with asked as (
    select p.nodename, p.nodeport, p.success, p.result
    from pg_catalog.run_command_on_placements(
        '{schema}.events',
        pg_catalog.format(
            'select pg_catalog.min(pg_catalog.age(xmin)) from %%%%s where kind in (3, 4)%%s',
            case
                when %(threads)s::text[] is null then ''
                else
                    ' and thread_id = any('
                    || pg_catalog.replace(pg_catalog.quote_literal(%(threads)s::text[]::text), '%%', '%%%%')
                    || '::text[])'
            end
        )
    ) as p
),

erased as (
    select a.nodename, a.nodeport, pg_catalog.min(a.result::integer) as age
    from asked as a
    where a.success and a.result <> ''
    group by a.nodename, a.nodeport
),

commands as (
    select
        pg_catalog.array_agg(e.nodename) as names, pg_catalog.array_agg(e.nodeport) as ports,
        pg_catalog.array_agg(
            pg_catalog.format(
                $command$
                select coalesce(pg_catalog.jsonb_agg(h.holder), '[]')
                from (
                    select
                        pg_catalog.format(
                            'process %%%%s of user %%%%s, %%%%s',
                            a.pid, coalesce(a.usename, '-'), coalesce(a.state, a.backend_type)
                        ) as holder
                    from pg_catalog.pg_stat_activity as a
                    where
                        greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) >= %%1$s
                        and a.pid <> pg_catalog.pg_backend_pid()
                        and (
                            a.datname = pg_catalog.current_database() or a.datname is null
                            or a.backend_type = 'walsender'
                        )
                        and not (
                            a.backend_type = 'autovacuum worker'
                            and pg_catalog.starts_with(a.query, 'autovacuum: VACUUM')
                            and not pg_catalog.starts_with(a.query, 'autovacuum: VACUUM ANALYZE')
                        )
                    union all
                    select pg_catalog.format('the prepared transaction %%%%s', x.gid)
                    from pg_catalog.pg_prepared_xacts as x
                    where x.database = pg_catalog.current_database() and pg_catalog.age(x.transaction) >= %%1$s
                    union all
                    select pg_catalog.format('the replication slot %%%%s', r.slot_name)
                    from pg_catalog.pg_replication_slots as r
                    where pg_catalog.age(r.xmin) >= %%1$s
                ) as h
                $command$, e.age
            )
        ) as texts
    from erased as e
),

answers as (
    select r.node_name as nodename, r.node_port as nodeport, r.success, r.result
    from commands as c
    cross join lateral pg_catalog.master_run_on_worker(c.names, c.ports, c.texts, true) as r
    where c.names is not null
)

select pg_catalog.format('%%s on node %%s:%%s', h.holder, a.nodename, a.nodeport) as holder
from answers as a
cross join
    lateral pg_catalog.jsonb_array_elements_text(case when a.success then a.result::jsonb else '[]' end) as h (holder)
union
select pg_catalog.format('node %%s:%%s, which did not answer: %%s', f.nodename, f.nodeport, f.result) as holder
from (
    select a.nodename, a.nodeport, a.success, a.result from asked as a
    union all
    select a.nodename, a.nodeport, a.success, a.result from answers as a
) as f
where not f.success
order by holder;

-- name: verify_shards
-- The tables in which the nodes store the rows of the log's tables: the names of both, the log's first.
select c.relname::text as name, pg_catalog.concat(c.relname, '_', s.shardid) as shard
from pg_catalog.pg_dist_shard as s
inner join pg_catalog.pg_class as c on s.logicalrelid::pg_catalog.oid = c.oid
where c.relnamespace = '{schema}'::pg_catalog.regnamespace::pg_catalog.oid;

-- name: verify_nodes
-- The code on each node, by `verify_code`, or an error; and whether it is this node.
with nodes as (
    select n.nodeid, n.groupid = l.groupid as is_here, n.nodename || ':' || n.nodeport as name
    from pg_catalog.pg_dist_node as n
    cross join pg_catalog.pg_dist_local_group as l
)

select n.name, r.success, r.result, n.is_here
from
    pg_catalog.run_command_on_all_nodes(
        pg_catalog.concat('select coalesce(pg_catalog.json_agg(q), ''[]'') from (', %s::text, ') as q')
    ) as r
inner join nodes as n on r.nodeid = n.nodeid
order by n.nodeid;

-- name: verify_xids
-- The next transaction id of each node.
select n.groupid, r.result
from
    pg_catalog.run_command_on_all_nodes(
        'select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text'
    ) as r
inner join pg_catalog.pg_dist_node as n on r.nodeid = n.nodeid
where r.success;
