-- Rows as the planner estimates them: as dense as when the table was analyzed. Its counters are of no use where a
-- table was filled and analyzed in one go, as a rebuild does it: they count all of it twice.
select
    c.relname::text as name,
    sum(
        case
            when l.reltuples >= 0 and l.relpages > 0
                then l.reltuples * (pg_relation_size(l.oid) / current_setting('block_size')::int) / l.relpages
            else greatest(pg_stat_get_live_tuples(l.oid), 0)
        end
    )::bigint as rows,
    sum(pg_total_relation_size(l.oid))::bigint as bytes,
    sum(pg_relation_size(l.oid))::bigint as heap_bytes,
    sum(pg_indexes_size(l.oid))::bigint as index_bytes,
    sum(coalesce(pg_total_relation_size(nullif(l.reltoastrelid, 0)), 0))::bigint as toast_bytes
from pg_catalog.pg_class as c
left join pg_catalog.pg_inherits as i on c.oid = i.inhparent
inner join pg_catalog.pg_class as l on l.oid = coalesce(i.inhrelid, c.oid)
where c.relnamespace = '{schema}'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
group by c.relname
order by sum(pg_total_relation_size(l.oid)) desc, c.relname asc
