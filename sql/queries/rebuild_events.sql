select
    e.seq, e.kind, e.checkpoint_id, e.base_seq, e.recorded_at, e.as_of, e.first_at, e.digest,
    e.xid::text as xid, e.position,
    case when e.kind = 1 then e.body end as body
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq > %s
order by e.seq
limit %s
