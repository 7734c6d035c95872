-- The next streams of the log. From stream to stream along the key: an event for each, however many there are.
with recursive next as (
    (
        select e.thread_id, e.checkpoint_ns, 1 as number
        from {schema}.events as e
        where (e.thread_id, e.checkpoint_ns) > (%(thread_id)s, %(checkpoint_ns)s)
        order by e.thread_id, e.checkpoint_ns
        limit 1
    )
    union all
    select n.thread_id, n.checkpoint_ns, x.number + 1
    from next as x
    cross join
        lateral (
            select e.thread_id, e.checkpoint_ns
            from {schema}.events as e
            where (e.thread_id, e.checkpoint_ns) > (x.thread_id, x.checkpoint_ns)
            order by e.thread_id, e.checkpoint_ns
            limit 1
        ) as n
    where x.number < %(rows)s
)

select x.thread_id, x.checkpoint_ns from next as x
order by x.number
