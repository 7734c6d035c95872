select
    s.thread_id, s.checkpoint_ns, s.seq, s.digest, timestamptz_send(s.begins_at) as begins_at,
    s.latest_checkpoint_id is not null or s.written_through is not null as has_data
from {schema}.streams as s
where
    s.thread_id >= %(thread)s
    and (s.thread_id, s.checkpoint_ns) >= (%(thread)s, %(ns)s)
    and (
        %(end_thread)s::text is null
        or s.thread_id <= %(end_thread)s and (s.thread_id, s.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
    )
order by s.thread_id, s.checkpoint_ns
limit %(rows)s
