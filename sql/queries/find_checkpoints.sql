select c.thread_id, c.checkpoint_ns, c.checkpoint_id
from {schema}.streams as s
cross join
    lateral (
        select c.thread_id, c.checkpoint_ns, c.checkpoint_id
        from {schema}.checkpoints as c
        where
            c.thread_id = s.thread_id
            and c.checkpoint_ns = s.checkpoint_ns
            and c.checkpoint_id >= %(first)s
            and c.checkpoint_id < %(beyond)s
        order by c.checkpoint_id
        limit %(rows)s
    ) as c
where
    s.latest_checkpoint_id >= %(first)s
    and (%(thread_id)s::text is null or s.thread_id = %(thread_id)s)
    and (%(checkpoint_ns)s::text is null or s.checkpoint_ns = %(checkpoint_ns)s)
order by c.thread_id, c.checkpoint_ns, c.checkpoint_id
limit %(rows)s
