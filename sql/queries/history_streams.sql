-- How far each stream of a thread goes, and whether it is there at all.
select s.checkpoint_ns, s.seq
from {schema}.streams as s
where s.thread_id = %s
