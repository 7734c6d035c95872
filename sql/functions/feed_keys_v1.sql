-- Returns a key for each node of a Citus cluster that holds shards of the log, or of the given threads: a function on
-- the thread with this id runs on that node. Null: the log is not distributed.
create or replace function {schema}.feed_keys_v1(p_threads text[]) returns text[]
language plpgsql stable
-- Small catalogs: the caller's settings would choose a plan so dear that it would be compiled.
set enable_seqscan = on set enable_sort = on set jit = off
as $function$
declare
    v_keys text[];
    v_nodes bigint;
    v_tries integer := 16;
begin
    if not {schema}.is_distributed_v1() then
        return null;
    end if;
    if p_threads is null then
        select count(distinct p.groupid) into v_nodes
        from pg_dist_shard as s
        inner join pg_dist_placement as p on s.shardid = p.shardid
        where s.logicalrelid = '{schema}.streams'::regclass;
    end if;
    -- Numbers, more and more of them until each node has one.
    loop
        select array_agg(f.key) into v_keys
        from (
            select distinct on (p.groupid) k.key
            from unnest(coalesce(p_threads, array(select n::text from generate_series(1, v_tries) as n))) as k (key)
            inner join pg_dist_shard as s
                on hashtext(k.key) between s.shardminvalue::integer and s.shardmaxvalue::integer
            inner join pg_dist_placement as p on s.shardid = p.shardid
            where s.logicalrelid = '{schema}.streams'::regclass
            order by p.groupid
        ) as f;
        exit when p_threads is not null or cardinality(v_keys) >= v_nodes;
        v_tries := v_tries * 4;
    end loop;
    return coalesce(v_keys, array[]::text[]);
end
$function$;
