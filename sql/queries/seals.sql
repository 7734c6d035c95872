-- Taking and reading seals.

-- name: begin_seal
-- Begins a seal.
select o_number, o_previous, o_sealed_at, o_by, o_partitions, o_log_id from {schema}.begin_seal_v1();

-- name: finish_seal
-- Completes a seal.
select {schema}.finish_seal_v1(%s, %s, %s, %s, %s, %s, %s);

-- name: read_seals
-- Seals, the latest first.
select s.number, s.sealed_at, s.streams, s.changed, s.root, s.changes, s.partitions, s.previous, s.digest, s.by, s.actor
from {schema}.seals as s
where s.number < coalesce(%(before)s::bigint, s.number + 1) and s.number = coalesce(%(number)s::bigint, s.number)
order by s.number desc
limit %(rows)s;

-- name: sealed_stream
-- The row of one stream in a seal, and the stream's name.
select d.stream, d.seq, d.digest
from {schema}.streams as s
inner join {schema}.sealed as d on s.name = d.stream
where s.thread_id = %s and s.checkpoint_ns = %s and d.seal <= %s and d.ended_at is null
order by d.seal desc
limit 1;

-- name: sealed_streams
-- The rows of the next streams in a seal, in their order; nulls for a stream that began after the seal. The query goes
-- from stream to stream by the index, so it does not matter how often a stream was sealed. It avoids `stream = … and
-- seal <= …`: as written, only the primary key serves it, even before the server has statistics.
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
    select d.seq, d.digest, d.ended_at is null as is_live
    from {schema}.sealed as d
    where d.stream >= n.stream and (d.stream, d.seal) <= (n.stream, %(seal)s)
    order by d.stream desc, d.seal desc
    limit 1
) as l on true
where n.stream is not null
order by n.number;

-- name: sealed_changes
-- A page of the streams that changed or ended between a seal and the one before.
select d.stream, d.seq, d.digest, pg_catalog.timestamptz_send(d.ended_at) || d.record as ended
from {schema}.sealed as d
where d.seal <= %(seal)s and (d.seal, d.stream) > (%(seal)s, %(after)s)
order by d.seal, d.stream
limit %(rows)s;
