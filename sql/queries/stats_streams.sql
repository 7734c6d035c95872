select count(*) as streams, count(distinct s.thread_id) as threads
from {schema}.streams as s
where s.latest_checkpoint_id is not null or s.written_through is not null
