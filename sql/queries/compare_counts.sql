-- How many live rows a stream has.
select
    (
        select count(*) from {schema}.checkpoints as c
        where c.thread_id = %(thread_id)s and c.checkpoint_ns = %(checkpoint_ns)s
    ),
    (
        select count(*) from {schema}.snapshots as s
        where s.thread_id = %(thread_id)s and s.checkpoint_ns = %(checkpoint_ns)s
    )
