select
    s.thread_id, s.checkpoint_ns, s.seq, s.digest, s.begins_at, s.active_at,
    s.latest_checkpoint_id is not null or s.written_through is not null as has_data,
    convert_from(substr(e.body, 2), 'UTF8')::jsonb as last_operation,
    greatest(s.updated_at + interval '1 microsecond', {schema}.clock_v1()) as now
from {schema}.streams as s
left join {schema}.events as e
    on
        s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns and s.seq = e.seq
        and s.updated_at = e.recorded_at and e.kind > 2
where s.thread_id = any(%s)
order by s.thread_id, s.checkpoint_ns
