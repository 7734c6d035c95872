-- Checkpoints that share their parent, or have none as others do; with `everyone`, all.
select o.checkpoint_ns, o.parent_checkpoint_id, o.first_at, o.seq, o.checkpoint_id
from (
    select
        c.checkpoint_ns, c.parent_checkpoint_id, c.checkpoint_id, c.first_at, c.seq,
        count(*) over (partition by c.checkpoint_ns, c.parent_checkpoint_id) as children
    from {schema}.checkpoints as c
    where c.thread_id = %(thread_id)s
) as o
where o.children > 1 or %(everyone)s
