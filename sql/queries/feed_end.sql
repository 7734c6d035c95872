-- The last settled event of the newest generation.
with newest as materialized (
    select n.o_generation, n.o_is_restored, g.after_position
    from {schema}.newest_generation_v1() as n
    inner join {schema}.generations as g on n.o_generation = g.generation
),

final as (
    select e.xid::text::bigint as xid, e.position
    from {schema}.events as e
    where
        e.xid < pg_snapshot_xmin(pg_current_snapshot())
        and e.position > (select n.after_position from newest as n)
    order by e.xid desc, e.position desc
    limit 1
)

select n.o_generation, n.o_is_restored, f.xid, f.position
from newest as n
left join final as f on true
