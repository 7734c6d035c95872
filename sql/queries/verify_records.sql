select
    e.thread_id, e.checkpoint_ns, e.recorded_at, e.seq, e.kind, e.body,
    timestamptz_send(e.as_of) as as_of
from {schema}.events as e
where
    e.thread_id >= %(thread)s
    and (e.thread_id, e.checkpoint_ns) >= (%(thread)s, %(ns)s)
    and (
        %(end_thread)s::text is null
        or e.thread_id <= %(end_thread)s and (e.thread_id, e.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
    )
    and e.kind > 2
order by e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at
