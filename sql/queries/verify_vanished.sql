-- Streams that the last seal that knows them has, and the log does not, and that did not end after it.
with tips as materialized (
    select {schema}.sealed_name_v1(s.thread_id, s.checkpoint_ns) as stream
    from {schema}.streams as s
    where %(threads)s::text[] is null or s.thread_id = any(%(threads)s::text[])
)

select d.stream, d.seal, d.seq
from {schema}.sealed as d
left join {schema}.seals as s on d.seal = s.number
where
    d.is_live
    and (%(streams)s::bytea[] is null or d.stream = any(%(streams)s::bytea[]))
    and not exists (
        select 1 from tips as t
        where t.stream = d.stream
    )
    and not exists (
        select 1 from {schema}.sealed as l
        where l.stream = d.stream and (l.seal, l.is_live) > (d.seal, d.is_live)
    )
    and not exists (
        select 1 from {schema}.ended as e
        where
            e.stream = d.stream and e.seq >= d.seq
            and e.ended_at > s.sealed_at
            and not exists (
                select 1 from {schema}.sealed as o
                where o.stream = e.stream and not o.is_live and o.digest = e.digest and o.seal <= d.seal
            )
    )
order by d.stream
limit %(rows)s
