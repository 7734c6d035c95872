-- The next streams that have rows in a table, and which of them have no events. From stream to stream along the
-- key: a table may hold many rows of each.
with recursive next as (
    (
        select p.thread_id, p.checkpoint_ns, 1 as number
        from {schema}.{table} as p
        where (p.thread_id, p.checkpoint_ns) > (%(thread_id)s, %(checkpoint_ns)s)
        order by p.thread_id, p.checkpoint_ns
        limit 1
    )
    union all
    select n.thread_id, n.checkpoint_ns, x.number + 1
    from next as x
    cross join
        lateral (
            select p.thread_id, p.checkpoint_ns
            from {schema}.{table} as p
            where (p.thread_id, p.checkpoint_ns) > (x.thread_id, x.checkpoint_ns)
            order by p.thread_id, p.checkpoint_ns
            limit 1
        ) as n
    where x.number < %(rows)s
)

select
    x.thread_id, x.checkpoint_ns,
    not exists (
        select 1
        from {schema}.events as e
        where e.thread_id = x.thread_id and e.checkpoint_ns = x.checkpoint_ns
    ) as is_stray
from next as x
order by x.number
