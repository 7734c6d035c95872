-- A checkpoint's event, with the snapshot that the rebuild has taken there.
select e.seq, e.base_seq, e.recorded_at, e.body, s.body as snapshot
from {schema}.events as e
left join {schema}.snapshots_rebuilt as s
    on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns and e.seq = s.seq
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq = %s
    and e.kind = 1
