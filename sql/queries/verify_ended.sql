-- Streams that seals say ended and of which nothing else says it, or the other way round.
select o.stream, o.seal, o.seq, o.what
from (
    select d.stream, d.seal, d.seq, 'it is sealed that the stream ended, and its row in `ended` is missing' as what
    from {schema}.sealed as d
    left join {schema}.ended as e
        on d.stream = e.stream and d.seq = e.seq and d.digest = e.digest and d.ended_at = e.ended_at
    where not d.is_live and e.stream is null
    union all
    select e.stream, null, e.seq, 'its row in `ended` says that it went with a partition that was not dropped then'
    from {schema}.ended as e
    left join {schema}.partitions as p on e.partition = p.name and e.ended_at = p.dropped_at
    where p.name is null
    union all
    select e.stream, d.seal, e.seq, 'its row in `ended` has another digest than the seal'
    from {schema}.ended as e
    inner join {schema}.sealed as d on e.stream = d.stream and e.seq = d.seq and d.is_live
    where
        e.digest <> d.digest
        and not exists (
            select 1 from {schema}.sealed as n
            where n.stream = d.stream and (n.seal, n.is_live) > (d.seal, d.is_live)
        )
    union all
    select d.stream, d.seal, d.seq, 'there is no such seal'
    from {schema}.sealed as d
    left join {schema}.seals as s on d.seal = s.number
    where s.number is null
) as o
order by o.stream, o.seal
limit %(rows)s
