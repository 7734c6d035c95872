-- Comparing the log with its seals, and these with the rows of partitions and of ended streams.

-- name: verify_generations
-- The generations of the log, whether the log was restored since the last one began, and whether it is distributed.
select
    g.after_position, g.after_xid::text as after_xid, n.o_is_restored,
    {schema}.is_distributed_v1()
    and exists (
        select from pg_catalog.pg_extension as e
        where e.extname = 'citus'
    ) as is_distributed
from {schema}.newest_generation_v1() as n
inner join {schema}.generations as g on g.generation > 0
order by g.generation;

-- name: verify_seal_times
-- When the log was sealed, and the current time.
select
    s.number, pg_catalog.timestamptz_send(s.sealed_at) as sealed_at, pg_catalog.timestamptz_send(n.now) as now
from {schema}.seals as s
cross join {schema}.clock_v1() as n (now)
order by s.number;

-- name: partition_times
-- The time ranges of the partitions, and whether they were dropped.
select p.starts_at, p.ends_at, p.dropped_at is not null as is_dropped
from {schema}.partitions as p;

-- name: verify_seals
-- The next seals. A time that no seal can have is replaced: the client's language may have no such time.
select
    s.number, s.streams, s.changed, s.root, s.changes, s.partitions, s.previous, s.digest, s.by, s.actor,
    case
        when s.sealed_at between '2000-01-01 00:00Z' and '5000-01-01 00:00Z' then s.sealed_at
        else '2000-01-01 00:00Z'
    end as sealed_at
from {schema}.seals as s
where s.number > %(after)s
order by s.number
limit %(rows)s;

-- name: verify_partitions
-- The rows of `partitions` as seals have them, whether each partition exists, and another one that it overlaps with.
select
    p.name,
    pg_catalog.encode(pg_catalog.timestamptz_send(p.starts_at), 'hex') as starts_at,
    pg_catalog.encode(pg_catalog.timestamptz_send(p.ends_at), 'hex') as ends_at,
    pg_catalog.encode(pg_catalog.timestamptz_send(p.made_at), 'hex') as made_at,
    coalesce(pg_catalog.encode(pg_catalog.timestamptz_send(p.dropped_at), 'hex'), '-') as dropped_at,
    coalesce(pg_catalog.encode(p.archive, 'hex'), '-') as archive,
    coalesce(
        (
            select true
            from pg_catalog.pg_inherits as i
            inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
            where i.inhparent = '{schema}.events'::pg_catalog.regclass::pg_catalog.oid and c.relname::text = p.name
        ), false
    ) as is_there,
    (
        select o.name
        from {schema}.partitions as o
        where
            o.name < p.name and o.starts_at < p.ends_at and p.starts_at < o.ends_at
            -- A dropped partition may have been created again, if the clock went back.
            and (o.dropped_at is null or o.dropped_at > p.made_at)
            and (p.dropped_at is null or p.dropped_at > o.made_at)
        order by o.name
        limit 1
    ) as overlapping
from {schema}.partitions as p
order by p.name;

-- name: verify_sealed
-- The rows of streams in seals.
select d.stream, d.seal, d.seq, d.digest
from {schema}.sealed as d
where d.stream = any(%(streams)b) and d.ended_at is null
order by d.stream, d.seal;

-- name: verify_names
-- Streams that have another stream's name.
with ours as materialized (
    select s.name
    from {schema}.streams as s
    where s.thread_id = any(%(threads)s::text[])
),

shared as materialized (
    select s.name
    from {schema}.streams as s
    where %(threads)s::text[] is null or s.name in (select o.name from ours as o)
    group by s.name
    having pg_catalog.count(*) > 1
)

select s.thread_id, s.checkpoint_ns, s.seq, 'another stream has the same name' as what
from {schema}.streams as s
where
    (%(threads)s::text[] is null or s.thread_id = any(%(threads)s::text[]))
    and s.name in (select d.name from shared as d)
order by s.thread_id, s.checkpoint_ns
limit %(rows)s;

-- name: verify_named
-- The next streams of a thread, with their names.
select s.thread_id, s.checkpoint_ns, s.seq, s.name
from {schema}.streams as s
where s.thread_id = %(thread)s and s.checkpoint_ns >= %(ns)s
order by s.checkpoint_ns
limit %(rows)s;

-- name: find_stream_name
-- The name that seals have for a stream.
select {schema}.find_stream_name_v1(%s, %s);

-- name: verify_ended
-- Streams that ended according to a seal but not to `ended`, or the other way round.
select o.stream, o.seal, o.seq, o.what
from (
    select d.stream, d.seal, d.seq, 'a seal has its end, but its row in `ended` is missing or differs' as what
    from {schema}.sealed as d
    left join {schema}.ended as e
        on
            d.stream = e.stream and d.seq = e.seq and d.digest = e.digest and d.ended_at = e.ended_at
            and d.record = pg_catalog.sha256(pg_catalog.convert_to(e.record::text, 'UTF8'))
    where d.ended_at is not null and e.stream is null
    union all
    select e.stream, null, e.seq, 'its row in `ended` names a partition that was not dropped then, or with other times'
    from {schema}.ended as e
    left join {schema}.partitions as p
        on
            e.partition = p.name and e.ended_at = p.dropped_at and e.recorded_at >= p.starts_at
            and e.recorded_at < p.ends_at
    where p.name is null
    union all
    select e.stream, null, e.seq, 'its row in `ended` says that it ended, but `streams` has it'
    from {schema}.ended as e
    inner join {schema}.streams as s on e.stream = s.name
    union all
    select d.stream, d.seal, d.seq, 'its row in `ended` says that it ended before it was sealed, or at another event'
    from {schema}.ended as e
    inner join {schema}.sealed as d on e.stream = d.stream and d.ended_at is null
    inner join {schema}.seals as s on d.seal = s.number
    where
        s.sealed_at > e.ended_at
        or d.seq > e.seq
        or d.seq = e.seq and d.digest <> e.digest
        or d.seq = e.seq - 1 and d.digest <> e.previous
    union all
    select d.stream, d.seal, d.seq, 'its seal is missing from `seals`'
    from {schema}.sealed as d
    left join {schema}.seals as s on d.seal = s.number
    where s.number is null
) as o
order by o.stream, o.seal
limit %(rows)s;

-- name: verify_last_records
-- A page of the last records of ended streams.
select
    e.stream, e.seq, e.previous, e.leaf, e.digest, e.record::text as record,
    pg_catalog.timestamptz_send(e.recorded_at) as recorded_at
from {schema}.ended as e
where e.stream > %(after)s
order by e.stream
limit %(rows)s;

-- name: verify_vanished
-- Streams that are in a seal but neither in `streams` nor in `ended`. `found` has the names of those that lost their
-- row in `streams` but have events. On Citus, only a list of all names can be compared with the seals.
with names as materialized (
    select s.name from {schema}.streams as s
)

select d.stream, pg_catalog.max(d.seal) as seal, pg_catalog.max(d.seq) as seq
from {schema}.sealed as d
left join names as n on d.stream = n.name
left join {schema}.ended as e on d.stream = e.stream
where d.stream <> all(%(found)s::bytea[]) and n.name is null and e.stream is null
group by d.stream
order by d.stream
limit %(rows)s;

-- name: verify_lost
-- The head of a stream that lost its row, by its events.
with begun as (
    select pg_catalog.max(e.as_of) as at
    from {schema}.events as e
    where e.thread_id = %(thread)s and e.checkpoint_ns = %(ns)s and e.kind > 2
)

select e.thread_id, e.checkpoint_ns, e.seq, e.digest, pg_catalog.timestamptz_send(b.at) as begins_at
from {schema}.events as e
cross join begun as b
where e.thread_id = %(thread)s and e.checkpoint_ns = %(ns)s
order by e.seq desc
limit 1;
