-- Comparing the log with itself, its projections and its seals.

-- name: log_id
-- The log's random name.
select s.log_id from {schema}.settings as s;

-- name: verify_streams
-- The first streams from a place on: where a range ends.
select s.thread_id, s.checkpoint_ns
from {schema}.streams as s
where (s.thread_id, s.checkpoint_ns) >= (%(thread)s, %(ns)s)
order by s.thread_id, s.checkpoint_ns
limit %(rows)s;

-- name: verify_tips
-- The streams of a range: where each ends.
select
    s.thread_id, s.checkpoint_ns, s.seq, s.digest, s.name, pg_catalog.timestamptz_send(s.begins_at) as begins_at
from {schema}.streams as s
where
    s.thread_id >= %(thread)s
    and (s.thread_id, s.checkpoint_ns) >= (%(thread)s, %(ns)s)
    and (
        %(end_thread)s::text is null
        or s.thread_id <= %(end_thread)s and (s.thread_id, s.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
    )
order by s.thread_id, s.checkpoint_ns
limit %(rows)s;

-- name: verify_events
-- A page of events, as many as their bodies allow, one at least; whether there may be more; and whether the server has
-- not given their transaction ids yet. Times that no partition bounds come as bytes: they may be beyond those of the
-- client's language.
with page as (
    select
        e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.kind, e.checkpoint_id, e.base_seq, e.as_of, e.first_at,
        e.position, e.xid, e.state_digest, e.origin_base_seq, e.origin_body_digest, e.digest, e.body
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
        pg_catalog.row_number() over so_far as number,
        pg_catalog.sum(pg_catalog.octet_length(p.body)) over so_far as bytes,
        pg_catalog.count(*) over () as rows
    from page as p
    window so_far as (order by p.thread_id, p.checkpoint_ns, p.seq, p.recorded_at)
)

select
    m.seq, m.base_seq, m.recorded_at, m.body, m.kind, m.checkpoint_id, m.checkpoint_ns, m.thread_id, m.position,
    m.digest, m.state_digest, m.origin_base_seq, m.origin_body_digest, m.rows, m.xid::text as xid,
    m.xid >= pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
    and coalesce(m.xid <> pg_catalog.pg_current_xact_id_if_assigned(), true) as is_ahead,
    pg_catalog.timestamptz_send(m.as_of) as as_of, pg_catalog.timestamptz_send(m.first_at) as first_at
from measured as m
where m.number = 1 or m.bytes <= %(bytes)s
order by m.thread_id, m.checkpoint_ns, m.seq, m.recorded_at;

-- name: verify_records
-- The records of operations on a range of streams.
select
    e.thread_id, e.checkpoint_ns, e.recorded_at, e.seq, e.body, pg_catalog.timestamptz_send(e.as_of) as as_of
from {schema}.events as e
where
    e.thread_id >= %(thread)s
    and (e.thread_id, e.checkpoint_ns) >= (%(thread)s, %(ns)s)
    and (
        %(end_thread)s::text is null
        or e.thread_id <= %(end_thread)s and (e.thread_id, e.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
    )
    and e.kind > 2
order by e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at;

-- name: verify_projections
-- Where `streams`, `checkpoints` and `snapshots` are not what the log says, as far as that can be told without decoding
-- bodies. One statement, so all of it is of one moment. That a range of streams is also one of threads, says twice what
-- is so anyway: of that the planner knows how few they are.
with tips as (
    select
        s.thread_id, s.checkpoint_ns, s.seq, s.epoch, s.latest_checkpoint_id, s.written_through, s.erased_through,
        s.begins_at, s.active_at, s.updated_at
    from {schema}.streams as s
    where
        s.thread_id >= %(thread)s
        and (s.thread_id, s.checkpoint_ns) >= (%(thread)s, %(ns)s)
        and (
            %(end_thread)s::text is null
            or s.thread_id <= %(end_thread)s and (s.thread_id, s.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
),

here as (
    select
        e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.kind, e.checkpoint_id, e.as_of, e.first_at,
        s.begins_at, s.begins_at is not null and e.recorded_at < s.begins_at as is_void
    from {schema}.events as e
    left join tips as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
    where
        e.thread_id >= %(thread)s
        and (e.thread_id, e.checkpoint_ns) >= (%(thread)s, %(ns)s)
        and (
            %(end_thread)s::text is null
            or e.thread_id <= %(end_thread)s and (e.thread_id, e.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
),

saved as (
    select
        h.thread_id, h.checkpoint_ns, h.checkpoint_id, h.seq, h.recorded_at,
        pg_catalog.first_value(coalesce(h.first_at, h.recorded_at)) over puts as first_at,
        pg_catalog.lag(h.seq) over puts is not null as is_repeat,
        pg_catalog.lead(h.seq) over puts is null as is_current
    from here as h
    where h.kind = 1 and not h.is_void
    window puts as (partition by h.thread_id, h.checkpoint_ns, h.checkpoint_id order by h.seq)
),

repeats as (
    select v.thread_id, v.checkpoint_ns, pg_catalog.max(v.seq) as seq
    from saved as v
    where v.is_repeat
    group by v.thread_id, v.checkpoint_ns
),

folded as (
    select
        h.thread_id, h.checkpoint_ns,
        pg_catalog.max(h.checkpoint_id) filter (where h.kind = 1 and not h.is_void) as latest_checkpoint_id,
        pg_catalog.max(h.checkpoint_id) filter (where h.kind = 2 and not h.is_void) as written_through,
        pg_catalog.max(coalesce(h.as_of, h.recorded_at)) filter (where h.kind in (1, 2) and not h.is_void) as active_at,
        pg_catalog.max(h.recorded_at) filter (where h.as_of is null or h.kind > 2) as updated_at,
        pg_catalog.max(h.as_of) filter (where h.kind > 2) as begins_at,
        pg_catalog.max(h.seq) filter (where h.kind > 2 and not h.is_void) as record_seq,
        nullif(
            (
                pg_catalog.array_agg(h.checkpoint_id order by h.seq desc)
                filter (where h.kind > 2 and not h.is_void)
            )[1], ''
        ) as erased_through
    from here as h
    group by h.thread_id, h.checkpoint_ns
),

newest as (
    select v.thread_id, v.checkpoint_ns, v.checkpoint_id, v.seq, v.recorded_at, v.first_at
    from saved as v
    where v.is_current
),

rows as (
    select
        c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.seq, c.recorded_at, c.first_at, c.keyframe_seq, c.keyframe_at
    from {schema}.checkpoints as c
    where
        c.thread_id >= %(thread)s
        and (c.thread_id, c.checkpoint_ns) >= (%(thread)s, %(ns)s)
        and (
            %(end_thread)s::text is null
            or c.thread_id <= %(end_thread)s and (c.thread_id, c.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
),

wrong as (
    select s.thread_id, s.checkpoint_ns, s.seq, '`streams` disagrees with the log: ' || d.columns as what
    from tips as s
    left join folded as f on s.thread_id = f.thread_id and s.checkpoint_ns = f.checkpoint_ns
    left join repeats as r on s.thread_id = r.thread_id and s.checkpoint_ns = r.checkpoint_ns
    cross join
        lateral pg_catalog.concat_ws(
            ', ',
            case when s.latest_checkpoint_id is distinct from f.latest_checkpoint_id then 'latest_checkpoint_id' end,
            case when s.written_through is distinct from f.written_through then 'written_through' end,
            case when s.erased_through is distinct from f.erased_through then 'erased_through' end,
            case when s.begins_at is distinct from f.begins_at then 'begins_at' end,
            case when s.active_at is distinct from f.active_at then 'active_at' end,
            case when s.updated_at is distinct from f.updated_at then 'updated_at' end,
            -- A rebuild has raised it where it is greater.
            case when s.epoch < coalesce(greatest(f.record_seq, r.seq), 0) then 'epoch' end
        ) as d (columns)
    where d.columns <> ''
    union all
    select
        coalesce(v.thread_id, c.thread_id), coalesce(v.checkpoint_ns, c.checkpoint_ns), coalesce(v.seq, c.seq),
        '`checkpoints` disagrees with the log: ' || case
            when c.seq is null then 'no row'
            when v.seq is null then 'a row without an event'
            else pg_catalog.concat_ws(
                ', ',
                case when c.seq <> v.seq then 'seq' end,
                case when c.recorded_at <> v.recorded_at then 'recorded_at' end,
                case when c.first_at <> v.first_at then 'first_at' end
            )
        end
    from newest as v
    full join rows as c
        on v.thread_id = c.thread_id and v.checkpoint_ns = c.checkpoint_ns and v.checkpoint_id = c.checkpoint_id
    where (v.seq, v.recorded_at, v.first_at) is distinct from (c.seq, c.recorded_at, c.first_at)
    union all
    select c.thread_id, c.checkpoint_ns, c.seq, '`checkpoints` disagrees with the log: keyframe'
    from rows as c
    left join saved as v
        on
            c.thread_id = v.thread_id and c.checkpoint_ns = v.checkpoint_ns
            and c.keyframe_seq = v.seq and c.keyframe_at = v.recorded_at
    where v.seq is null or c.keyframe_seq > c.seq
    union all
    select n.thread_id, n.checkpoint_ns, n.seq, '`snapshots` disagrees with the log: a row without an event'
    from {schema}.snapshots as n
    left join saved as v
        on
            n.thread_id = v.thread_id and n.checkpoint_ns = v.checkpoint_ns
            and n.seq = v.seq and n.recorded_at = v.recorded_at
    where
        n.thread_id >= %(thread)s
        and (n.thread_id, n.checkpoint_ns) >= (%(thread)s, %(ns)s)
        and (
            %(end_thread)s::text is null
            or n.thread_id <= %(end_thread)s and (n.thread_id, n.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
        and v.seq is null
)

select n.thread_id, n.checkpoint_ns, n.seq, n.what, n.rows
from (
    select
        w.*,
        pg_catalog.row_number() over (partition by w.thread_id, w.checkpoint_ns order by w.seq, w.what) as number,
        pg_catalog.count(*) over (partition by w.thread_id, w.checkpoint_ns) as rows
    from wrong as w
) as n
where n.number <= %(rows)s
order by n.thread_id, n.checkpoint_ns, n.number;

-- name: verify_unknown
-- The first of these threads that left no trace.
select t.thread_id
from pg_catalog.unnest(%(threads)s::text[]) as t (thread_id)
where
    not exists (
        select 1 from {schema}.streams as s
        where s.thread_id = t.thread_id
        union all
        select 1 from {schema}.events as e
        where e.thread_id = t.thread_id
        union all
        select 1 from {schema}.checkpoints as c
        where c.thread_id = t.thread_id
        union all
        select 1 from {schema}.snapshots as n
        where n.thread_id = t.thread_id
    )
order by t.thread_id
limit 1;

-- name: verify_generations
-- The generations of the log, and whether the log was restored since the last one began.
select g.after_position, g.after_xid::text as after_xid, n.o_is_restored
from {schema}.newest_generation_v1() as n
inner join {schema}.generations as g on g.generation > 0
order by g.generation;

-- name: verify_seal_times
-- When the log was sealed, and what time it is now.
select
    s.number, pg_catalog.timestamptz_send(s.sealed_at) as sealed_at, pg_catalog.timestamptz_send(n.now) as now
from {schema}.seals as s
cross join {schema}.clock_v1() as n (now)
order by s.number;

-- name: partition_times
-- The times that the partitions cover, and whether they were dropped.
select p.starts_at, p.ends_at, p.dropped_at is not null as is_dropped
from {schema}.partitions as p;

-- name: verify_seals
-- A time that no seal can have may be one that the client's language does not have.
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
-- The rows of `partitions` as seals have them, whether each is a partition of the log, and one that it overlaps with.
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
            -- One that was dropped may have been made again, should the clock have gone back.
            and (o.dropped_at is null or o.dropped_at > p.made_at)
            and (p.dropped_at is null or p.dropped_at > o.made_at)
        order by o.name
        limit 1
    ) as overlapping
from {schema}.partitions as p
order by p.name;

-- name: verify_sealed
-- What seals say of streams.
select d.stream, d.seal, d.seq, d.digest
from {schema}.sealed as d
where d.stream = any(%(streams)b) and d.ended_at is null
order by d.stream, d.seal;

-- name: verify_names
-- Streams with the name of another one; of single threads, those too that the seals have under another name.
select s.thread_id, s.checkpoint_ns, s.seq, 'another stream has the same name' as what
from {schema}.streams as s
where
    (%(threads)s::text[] is null or s.thread_id = any(%(threads)s::text[]))
    and exists (
        select 1 from {schema}.streams as o
        where o.name = s.name and (o.thread_id, o.checkpoint_ns) <> (s.thread_id, s.checkpoint_ns)
    )
union all
select s.thread_id, s.checkpoint_ns, s.seq, 'it was sealed under another name'
from {schema}.streams as s
where
    s.thread_id = any(%(threads)s::text[])
    and {schema}.find_stream_name_v1(s.thread_id, s.checkpoint_ns) <> s.name
order by thread_id, checkpoint_ns -- noqa: RF02
limit %(rows)s;

-- name: verify_ended
-- Streams that seals say ended and of which nothing else says it, or the other way round.
select o.stream, o.seal, o.seq, o.what
from (
    select d.stream, d.seal, d.seq, 'it is sealed that the stream ended, and its row in `ended` is missing' as what
    from {schema}.sealed as d
    left join {schema}.ended as e
        on
            d.stream = e.stream and d.seq = e.seq and d.digest = e.digest and d.ended_at = e.ended_at
            and d.record = pg_catalog.sha256(pg_catalog.convert_to(e.record::text, 'UTF8'))
    where d.ended_at is not null and e.stream is null
    union all
    select e.stream, null, e.seq, 'its row in `ended` names a partition that was not dropped then, or has other times'
    from {schema}.ended as e
    left join {schema}.partitions as p
        on
            e.partition = p.name and e.ended_at = p.dropped_at and e.recorded_at >= p.starts_at
            and e.recorded_at < p.ends_at
    where p.name is null
    union all
    select e.stream, null, e.seq, 'its row in `ended` says that it ended, and it is there'
    from {schema}.ended as e
    inner join {schema}.streams as s on e.stream = s.name
    union all
    select d.stream, d.seal, d.seq, 'its row in `ended` says that it ended before it was sealed, or with another event'
    from {schema}.ended as e
    inner join {schema}.sealed as d on e.stream = d.stream and d.ended_at is null
    inner join {schema}.seals as s on d.seal = s.number
    where
        s.sealed_at > e.ended_at
        or d.seq > e.seq
        or d.seq = e.seq and d.digest <> e.digest
        or d.seq = e.seq - 1 and d.digest <> e.previous
    union all
    select d.stream, d.seal, d.seq, 'there is no such seal'
    from {schema}.sealed as d
    left join {schema}.seals as s on d.seal = s.number
    where s.number is null
) as o
order by o.stream, o.seal
limit %(rows)s;

-- name: verify_last_records
-- A page of the last records of streams that ended.
select
    e.stream, e.seq, e.previous, e.leaf, e.digest, e.record::text as record,
    pg_catalog.timestamptz_send(e.recorded_at) as recorded_at
from {schema}.ended as e
where e.stream > %(after)s
order by e.stream
limit %(rows)s;

-- name: verify_vanished
-- Streams that a seal has, and neither `streams` nor `ended`. `found` are the names of those that have lost their
-- row there, and have events.
select d.stream, pg_catalog.max(d.seal) as seal, pg_catalog.max(d.seq) as seq
from {schema}.sealed as d
where
    d.stream <> all(%(found)s::bytea[])
    and not exists (
        select 1 from {schema}.streams as s
        where s.name = d.stream
    )
    and not exists (
        select 1 from {schema}.ended as e
        where e.stream = d.stream
    )
group by d.stream
order by d.stream
limit %(rows)s;

-- name: verify_lost
-- Where a stream ends that has lost its row, by its events.
with begun as (
    select pg_catalog.max(e.as_of) as at
    from {schema}.events as e
    where e.thread_id = %(thread)s and e.checkpoint_ns = %(ns)s and e.kind > 2
)

select
    e.thread_id, e.checkpoint_ns, e.seq, e.digest,
    {schema}.find_stream_name_v1(e.thread_id, e.checkpoint_ns) as name,
    pg_catalog.timestamptz_send(b.at) as begins_at
from {schema}.events as e
cross join begun as b
where e.thread_id = %(thread)s and e.checkpoint_ns = %(ns)s
order by e.seq desc
limit 1;

-- name: receipt_records
-- What was erased from a thread, by its streams' records, oldest first; nulls for a stream that has none.
select s.checkpoint_ns, s.name, e.seq, e.recorded_at, e.digest, e.body
from {schema}.streams as s
left join {schema}.events as e
    on s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns and e.kind in (3, 4)
where s.thread_id = %s
order by s.checkpoint_ns, e.seq;

-- name: receipt_log
-- The log's name, and what time it is.
select s.log_id, n.now
from {schema}.settings as s
cross join {schema}.clock_v1() as n (now);

-- name: receipt_partitions
-- The partitions that ended by then, and when they were dropped.
select p.name, p.dropped_at
from {schema}.partitions as p
where p.ends_at <= %s::timestamptz
order by p.starts_at, p.name;

-- name: verify_code
-- What runs in the log's schema, and what stands between a reader and its tables: kind, name and facts of each
-- function, table and view, of triggers, policies and rules. Facts are texts that do not depend on the schema's name;
-- the source of a function is by itself.
with schema as (
    select
        n.oid,
        (
            select c.relowner from pg_catalog.pg_class as c
            where c.relnamespace = n.oid and c.relname = 'events'
        ) as owner,
        (
            select c.oid from pg_catalog.pg_class as c
            where c.relnamespace = n.oid and c.relname = 'events'
        ) as events
    from pg_catalog.pg_namespace as n
    where n.nspname = %(schema)s
),

relations as (
    select
        c.oid, c.relrowsecurity, c.relforcerowsecurity, c.relkind::text as relkind, c.relname::text as own_name,
        c.relowner <> s.owner as is_foreign,
        case when i.inhparent is null then c.relname::text else 'a partition' end as name
    from schema as s
    inner join pg_catalog.pg_class as c on c.relnamespace = s.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
    left join pg_catalog.pg_inherits as i on c.oid = i.inhrelid and i.inhparent = s.events
)

select
    'function' as kind, p.proname::text as name, null as own_name,
    pg_catalog.concat_ws(
        ', ',
        'language ' || l.lanname::text,
        case when p.prosecdef then 'security definer' end,
        'volatility ' || p.provolatile::text,
        'parallel ' || p.proparallel::text,
        case when p.proisstrict then 'strict' end,
        case when p.proleakproof then 'leakproof' end,
        'kind ' || p.prokind::text,
        pg_catalog.array_to_string(p.proconfig, ', '),
        'arguments ' || pg_catalog.array_to_string(p.proargnames, ' '),
        'returns ' || case when p.proretset then 'set of ' else '' end || t.typname::text,
        case when p.proowner <> s.owner then 'not the log''s owner''s' end
    ) as facts,
    p.prosrc as source
from schema as s
inner join pg_catalog.pg_proc as p on s.oid = p.pronamespace
inner join pg_catalog.pg_language as l on p.prolang = l.oid
inner join pg_catalog.pg_type as t on p.prorettype = t.oid
union all
select
    'relation', r.name, r.own_name,
    pg_catalog.concat_ws(
        ', ',
        'kind ' || r.relkind,
        case when r.relrowsecurity then 'row security' end,
        case when r.relforcerowsecurity then 'row security for its owner' end,
        case when r.is_foreign then 'not the log''s owner''s' end,
        (
            select 'columns ' || pg_catalog.string_agg(a.attname::text || ' ' || t.typname::text, ' ' order by a.attnum)
            from pg_catalog.pg_attribute as a
            inner join pg_catalog.pg_type as t on a.atttypid = t.oid
            where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
        )
    ), null
from relations as r
union all
select
    'trigger', t.tgname::text || ' on ' || r.name, r.own_name,
    pg_catalog.concat_ws(
        ', ', 'type ' || t.tgtype::text, 'enabled ' || t.tgenabled::text, 'function ' || p.proname::text,
        case when p.pronamespace <> s.oid then 'of another schema' end, case when t.tgqual is not null then 'when …' end
    ), null
from schema as s
cross join relations as r
-- PostgreSQL 14 takes the triggers that partitions have from their table for internal.
inner join pg_catalog.pg_trigger as t
    on
        r.oid = t.tgrelid
        and (
            not t.tgisinternal or t.tgparentid <> 0::pg_catalog.oid and t.tgconstraint = 0::pg_catalog.oid
        )
inner join pg_catalog.pg_proc as p on t.tgfoid = p.oid
union all
select 'policy', p.polname::text || ' on ' || r.own_name, null, 'command ' || p.polcmd::text, null
from relations as r
inner join pg_catalog.pg_policy as p on r.oid = p.polrelid
union all
select 'rule', w.rulename::text || ' on ' || r.own_name, null, 'event ' || w.ev_type::text, null
from relations as r
inner join pg_catalog.pg_rewrite as w on r.oid = w.ev_class and w.rulename <> '_RETURN'
order by kind, name, own_name, facts; -- noqa: RF02
