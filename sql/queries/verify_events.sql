-- A page of events, as many as their bodies allow, one at least; and whether there may be more. Times that no partition
-- bounds come as bytes: the client's language may not have a word for what somebody wrote there.
with page as (
    select
        e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.kind, e.checkpoint_id, e.base_seq, e.as_of, e.first_at,
        e.position, e.digest, e.body
    from {schema}.events as e
    where
        e.thread_id >= %(thread)s
        and (e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at)
        > (%(thread)s, %(ns)s, %(seq)s::bigint, coalesce(%(at)s::timestamptz, '-infinity'))
        and (
            %(end_thread)s::text is null
            or e.thread_id <= %(end_thread)s and (e.thread_id, e.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
    order by e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at
    limit %(rows)s
),

measured as (
    select
        p.*,
        row_number() over so_far as number,
        sum(octet_length(p.body)) over so_far as bytes,
        count(*) over () as rows
    from page as p
    window so_far as (order by p.thread_id, p.checkpoint_ns, p.seq, p.recorded_at)
)

select
    m.seq, m.base_seq, m.recorded_at, m.body, m.kind, m.checkpoint_id, m.checkpoint_ns, m.thread_id, m.position,
    m.digest, m.rows, timestamptz_send(m.as_of) as as_of, timestamptz_send(m.first_at) as first_at
from measured as m
where m.number = 1 or m.bytes <= %(bytes)s
order by m.thread_id, m.checkpoint_ns, m.seq, m.recorded_at
