-- How far each stream of a thread goes, when something was last replaced or erased, and whether it is there at all.
select s.checkpoint_ns, s.seq, s.epoch
from {schema}.streams as s
where s.thread_id = %s
