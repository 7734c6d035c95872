-- As rebuild_base, where nothing is written.
select e.seq, e.base_seq, e.recorded_at, e.body, null::bytea as snapshot
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq = %s
    and e.kind = 1
