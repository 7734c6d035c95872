select
    count(*) as rows,
    coalesce(sum(c.state_bytes), 0)::bigint as state_bytes,
    coalesce(percentile_disc(0.5) within group (order by c.seq - c.keyframe_seq), 0) as replay_median,
    coalesce(percentile_disc(0.95) within group (order by c.seq - c.keyframe_seq), 0) as replay_p95,
    coalesce(max(c.seq - c.keyframe_seq), 0) as replay_max
from {schema}.checkpoints as c tablesample system (%s)
