-- The root's row first, as every append and every operation does.
select s.thread_id, s.checkpoint_ns
from {schema}.streams as s
where s.thread_id = any(%s)
order by s.thread_id, s.checkpoint_ns
for update
