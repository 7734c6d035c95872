-- Returns a table's size on this node: bytes on disk, and rows as the planner estimates them, as dense as when it was
-- analyzed. The counters of live rows are wrong if one transaction filled and analyzed the table: they count those
-- rows twice.
create or replace function {schema}.relation_size_v1(
    p_relation oid, out o_rows bigint, out o_bytes bigint, out o_heap_bytes bigint, out o_index_bytes bigint,
    out o_toast_bytes bigint
)
language sql stable as $function$
    select
        (
            case
                when c.reltuples >= 0::real and c.relpages > 0
                    then
                        c.reltuples::float8
                        * (pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int)::float8
                        / c.relpages::float8
                else greatest(pg_catalog.pg_stat_get_live_tuples(c.oid), 0)
            end
        )::bigint,
        pg_catalog.pg_total_relation_size(c.oid),
        pg_catalog.pg_relation_size(c.oid),
        pg_catalog.pg_indexes_size(c.oid),
        coalesce(pg_catalog.pg_total_relation_size(nullif(c.reltoastrelid, 0::oid)), 0)
    from pg_catalog.pg_class as c
    where c.oid = p_relation
$function$;
