select
    coalesce(sum(d.streams), 0)::bigint, coalesce(sum(d.checkpoints), 0)::bigint, coalesce(sum(d.snapshots), 0)::bigint
from {schema}.rebuild_differences as d
where d.rebuild_id = %s
