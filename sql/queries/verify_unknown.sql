-- The first of these threads that left no trace: streams are what seals call their root graphs' namespaces.
select t.thread_id
from unnest(%(threads)s::text[], %(streams)s::bytea[]) as t (thread_id, stream)
where
    not exists (
        select 1 from {schema}.streams as s
        where s.thread_id = t.thread_id
    )
    and not exists (
        select 1 from {schema}.events as e
        where e.thread_id = t.thread_id
    )
    and not exists (
        select 1 from {schema}.checkpoints as c
        where c.thread_id = t.thread_id
    )
    and not exists (
        select 1 from {schema}.snapshots as n
        where n.thread_id = t.thread_id
    )
    and not exists (
        select 1 from {schema}.sealed as d
        where d.stream = t.stream
    )
    and not exists (
        select 1 from {schema}.ended as o
        where o.stream = t.stream
    )
order by t.thread_id
limit 1
