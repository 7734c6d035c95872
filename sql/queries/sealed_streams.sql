-- What a seal says of the next streams, in their order; nulls for one that it does not know yet. From stream to stream
-- by the index: how often a stream was sealed does not matter. What would be `stream = … and seal <= …` is written so
-- that only the primary key will do for it, also while the server has no statistics yet.
with recursive names as (
    (
        select d.stream, 1 as number
        from {schema}.sealed as d
        where d.stream > %(after)s
        order by d.stream
        limit 1
    )
    union all
    select
        (
            select d.stream from {schema}.sealed as d
            where d.stream > n.stream
            order by d.stream
            limit 1
        ),
        n.number + 1
    from names as n
    where n.stream is not null and n.number < %(rows)s
)

select n.stream, l.seq, l.digest, l.is_live
from names as n
left join lateral (
    select d.seq, d.digest, d.is_live
    from {schema}.sealed as d
    where d.stream >= n.stream and (d.stream, d.seal, d.is_live) <= (n.stream, %(seal)s, true)
    order by d.stream desc, d.seal desc, d.is_live desc
    limit 1
) as l on true
where n.stream is not null
order by n.number
