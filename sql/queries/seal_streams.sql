-- What changed since the last seal: one statement, so all of it is of one moment. Of a stream that ended twice since
-- then, the last end.
with tips as materialized (
    select s.seq, s.digest, {schema}.sealed_name_v1(s.thread_id, s.checkpoint_ns) as stream
    from {schema}.streams as s
)

insert into {schema}.sealed (stream, seal, is_live, seq, digest, ended_at)
select t.stream, %(seal)s, true, t.seq, t.digest, null
from tips as t
left join lateral (
    select d.seq, d.digest, d.is_live
    from {schema}.sealed as d
    where d.stream = t.stream
    order by d.seal desc, d.is_live desc
    limit 1
) as l on true
where (l.seq, l.digest, l.is_live) is distinct from (t.seq, t.digest, true)
union all
select e.stream, %(seal)s, false, e.seq, e.digest, e.ended_at
from {schema}.ended as e
where
    not exists (
        select 1 from {schema}.sealed as d
        where d.stream = e.stream and not d.is_live and d.digest = e.digest
    )
    and not exists (
        select 1 from {schema}.ended as o
        where o.stream = e.stream and o.ended_at > e.ended_at
    )
