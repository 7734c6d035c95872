select s.thread_id
from {schema}.streams as s
where s.thread_id > %(after)s and (s.latest_checkpoint_id is not null or s.written_through is not null)
group by s.thread_id
having max(s.active_at) < %(since)s
order by s.thread_id
limit %(rows)s
