select
    p.thread_id, p.checkpoint_ns, p.seq, p.recorded_at, p.position, p.kind, p.checkpoint_id, p.base_seq, p.as_of,
    p.first_at, p.digest, p.body
from (
    select
        e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.position, e.kind, e.checkpoint_id, e.base_seq, e.as_of,
        e.first_at, e.digest, e.body,
        row_number() over (order by e.thread_id, e.checkpoint_ns, e.seq) as number,
        sum(octet_length(e.body)) over (order by e.thread_id, e.checkpoint_ns, e.seq) as bytes
    from {schema}.events as e
    where
        e.recorded_at >= %(starts_at)s
        and e.recorded_at < %(ends_at)s
        and (e.thread_id, e.checkpoint_ns, e.seq) > (%(thread_id)s, %(checkpoint_ns)s, %(seq)s)
    order by e.thread_id, e.checkpoint_ns, e.seq
    limit %(rows)s
) as p
where p.number = 1 or p.bytes <= %(bytes)s
order by p.thread_id, p.checkpoint_ns, p.seq
