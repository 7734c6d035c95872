select
    e.seq, e.base_seq, e.recorded_at, e.kind, e.checkpoint_id, e.checkpoint_ns, e.thread_id, e.position, e.digest,
    e.as_of, octet_length(e.body) as bytes
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where e.thread_id = %s and e.recorded_at >= coalesce(s.begins_at, '-infinity')
order by e.checkpoint_ns, e.seq
