select s.checkpoint_ns, s.seq, octet_length(s.body) as bytes
from {schema}.snapshots as s
where s.thread_id = %s
