select t.thread_id, t.active_at, t.namespaces, c.checkpoints, e.events, e.bytes + n.bytes as bytes
from (
    select
        s.thread_id, max(s.active_at) as active_at,
        count(*) filter (where s.latest_checkpoint_id is not null or s.written_through is not null) as namespaces
    from {schema}.streams as s
    where s.thread_id = any(%s)
    group by s.thread_id
) as t
cross join
    lateral (
        select count(*) as checkpoints
        from {schema}.checkpoints as c
        where c.thread_id = t.thread_id
    ) as c
cross join
    lateral (
        select coalesce(sum(octet_length(n.body)), 0)::bigint as bytes
        from {schema}.snapshots as n
        where n.thread_id = t.thread_id
    ) as n
cross join lateral (
    select count(*) as events, coalesce(sum(octet_length(e.body)), 0)::bigint as bytes
    from {schema}.events as e
    inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
    where e.thread_id = t.thread_id and e.kind in (1, 2) and e.recorded_at >= coalesce(s.begins_at, '-infinity')
) as e
