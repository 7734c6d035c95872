-- What seals say of streams as they are now: not of what ended, after it was sealed, before it began anew.
select d.stream, d.seal, d.seq, d.digest
from {schema}.sealed as d
left join {schema}.seals as s on d.seal = s.number
where
    d.stream = any(%(streams)s)
    and d.is_live
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
order by d.stream, d.seal
