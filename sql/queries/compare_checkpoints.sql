-- Rows of checkpoints that are not what was derived, with the columns in which they differ. A keyframe may be another
-- one, if it is a checkpoint's event that is there, and not behind it. Metadata is the user's: what is shown of it is a
-- hash.
select
    r.checkpoint_id, v.columns, v.live, v.derived, c.checkpoint_id is null as is_missing
from jsonb_populate_recordset(null::{schema}.checkpoints, %s::jsonb) as r
left join {schema}.checkpoints as c
    on r.thread_id = c.thread_id and r.checkpoint_ns = c.checkpoint_ns and r.checkpoint_id = c.checkpoint_id
left join {schema}.events as k
    on
        c.thread_id = k.thread_id and c.checkpoint_ns = k.checkpoint_ns and c.keyframe_seq = k.seq
        and c.keyframe_at = k.recorded_at and k.kind = 1 and c.keyframe_seq <= r.seq
left join lateral (
    select
        array_agg(n.key order by n.key) as columns,
        array_agg(case when n.key = 'metadata' then md5(o.value) else o.value end order by n.key) as live,
        array_agg(case when n.key = 'metadata' then md5(n.value) else n.value end order by n.key) as derived
    from jsonb_each_text(to_jsonb(r.*)) as n
    inner join jsonb_each_text(to_jsonb(c.*)) as o on n.key = o.key
    where
        n.value is distinct from o.value
        and (k.seq is null or n.key not in ('keyframe_seq', 'keyframe_at'))
) as v on true
where
    c.checkpoint_id is null
    or k.seq is null
    or to_jsonb(c.*) - array['keyframe_seq', 'keyframe_at'] <> to_jsonb(r.*) - array['keyframe_seq', 'keyframe_at']
order by r.seq
