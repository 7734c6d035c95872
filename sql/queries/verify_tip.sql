select s.seq, s.digest, s.begins_at, s.latest_checkpoint_id is not null or s.written_through is not null as has_data
from {schema}.streams as s
where s.thread_id = %s and s.checkpoint_ns = %s
