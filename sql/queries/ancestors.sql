-- A checkpoint and its ancestors, nearest first.
with recursive path as (
    select c.checkpoint_id, c.parent_checkpoint_id, c.state_bytes, 1 as depth
    from {schema}.checkpoints as c
    where c.thread_id = %(thread_id)s and c.checkpoint_ns = %(checkpoint_ns)s and c.checkpoint_id = %(checkpoint_id)s
    union all
    select c.checkpoint_id, c.parent_checkpoint_id, c.state_bytes, p.depth + 1
    from path as p
    inner join {schema}.checkpoints as c
        on
            c.thread_id = %(thread_id)s
            and c.checkpoint_ns = %(checkpoint_ns)s
            and c.checkpoint_id = p.parent_checkpoint_id
    where p.depth < %(rows)s
)

select checkpoint_id, parent_checkpoint_id, state_bytes from path
order by depth
