-- The last seal, and what the next one begins with. It is not older, should the clock have gone back.
with latest as (
    select s.number, s.digest, s.sealed_at
    from {schema}.seals as s
    order by s.number desc
    limit 1
)

select max(l.number), (array_agg(l.digest))[1], greatest(max(l.sealed_at), {schema}.clock_v1()), session_user
from latest as l
