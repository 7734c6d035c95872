-- Where live snapshots are, in a range of numbers.
select s.seq, s.recorded_at
from {schema}.snapshots as s
where s.thread_id = %s and s.checkpoint_ns = %s and s.seq > %s and s.seq <= %s
order by s.seq
