-- Returns the sizes of tables (relation_size_v1); on Citus, of their shards and copies on all nodes.
--
-- A node that does not answer is an error that names it. (dynamic statements: Citus's tables exist only there)
create or replace function {schema}.relation_sizes_v1(p_relations oid[]) returns table (
    o_relation oid, o_rows bigint, o_bytes bigint, o_heap_bytes bigint, o_index_bytes bigint, o_toast_bytes bigint
)
language plpgsql set search_path = pg_catalog, pg_temp as $function$
declare
    v_relations oid[] := p_relations;
    v_names text[];
    v_node record;
    v_answers jsonb := '[]';
begin
    if {schema}.is_distributed_v1() then
        execute
            $query$
            select
                array_agg(d.logicalrelid::oid), array_agg(format('%s %s', c.relnamespace::regnamespace, c.relname))
            from pg_dist_partition as d
            inner join pg_class as c on d.logicalrelid = c.oid
            where c.oid = any($1)
            $query$
        into v_relations, v_names using p_relations;
        for v_node in
            execute
                $query$
                select n.nodename, n.nodeport, r.success, r.result
                from run_command_on_all_nodes(
                    format(
                        $command$
                        select
                            coalesce(
                                pg_catalog.jsonb_agg(
                                    pg_catalog.jsonb_build_array(
                                        p.number, z.o_rows, z.o_bytes, z.o_heap_bytes, z.o_index_bytes, z.o_toast_bytes
                                    )
                                ), '[]'
                            )
                        from pg_catalog.unnest(%L::text[]) with ordinality as p (name, number)
                        inner join pg_catalog.pg_class as c
                            on p.name = pg_catalog.format('%%s %%s', c.relnamespace::pg_catalog.regnamespace, c.relname)
                        inner join pg_catalog.pg_dist_shard as s on c.oid = s.logicalrelid
                        cross join lateral {schema}.relation_size_v1(
                            pg_catalog.to_regclass(pg_catalog.shard_name(s.logicalrelid, s.shardid))
                        ) as z
                        where z.o_bytes is not null
                        $command$, $1
                    )
                ) as r
                inner join pg_dist_node as n on r.nodeid = n.nodeid
                $query$
            using v_names
        loop
            if not v_node.success then
                raise exception 'node %:% of the Citus cluster did not tell the sizes of its tables: %',
                    v_node.nodename, v_node.nodeport, v_node.result
                    using errcode = 'system_error';
            end if;
            v_answers := v_answers || v_node.result::jsonb;
        end loop;
        return query execute
            $query$
            select
                d.logicalrelid::oid,
                -- A table that is copied to each node has the same rows on each.
                case d.partmethod when 'n' then max(a.number_of) else sum(a.number_of) end::bigint,
                sum(a.bytes)::bigint, sum(a.heap)::bigint, sum(a.indexes)::bigint, sum(a.toast)::bigint
            from (
                select
                    ($1)[(e.value ->> 0)::integer] as relation, (e.value ->> 1)::bigint as number_of,
                    (e.value ->> 2)::bigint as bytes, (e.value ->> 3)::bigint as heap,
                    (e.value ->> 4)::bigint as indexes, (e.value ->> 5)::bigint as toast
                from jsonb_array_elements($2) as e
            ) as a
            inner join pg_dist_partition as d on a.relation = d.logicalrelid
            group by d.logicalrelid, d.partmethod
            $query$
        using v_relations, v_answers;
        -- The others are stored on this node.
        v_relations := array(
            select r.id from unnest(p_relations) as r (id)
            where v_relations is null or r.id <> all(v_relations)
        );
    end if;
    return query
    select r.id, z.o_rows, z.o_bytes, z.o_heap_bytes, z.o_index_bytes, z.o_toast_bytes
    from unnest(v_relations) as r (id)
    cross join lateral {schema}.relation_size_v1(r.id) as z;
end
$function$;
