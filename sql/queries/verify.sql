-- Comparing the log with itself and its projections.

-- name: log_id
-- The log's random id.
select s.log_id from {schema}.settings as s;

-- name: verify_streams
-- The first streams from a place on, to find the end of a range.
select s.thread_id, s.checkpoint_ns
from {schema}.streams as s
where (s.thread_id, s.checkpoint_ns) >= (%(thread)s, %(ns)s)
order by s.thread_id, s.checkpoint_ns
limit %(rows)s;

-- name: verify_tips
-- The streams of a range, with the head of each.
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
-- A page of events: at least one, and as many as the limit on bodies allows. Also whether more may follow, and whether
-- a transaction id is beyond those that the events' server has assigned. Times outside the partitions' bounds come as
-- bytes: the client's language may have no such times. The last event of the page is found without the bodies: on
-- Citus, each node would send as many as the page has room for.
with page as (
    select e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, pg_catalog.octet_length(e.body) as bytes
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
        pg_catalog.sum(p.bytes) over so_far as bytes_so_far,
        pg_catalog.count(*) over () as rows
    from page as p
    window so_far as (order by p.thread_id, p.checkpoint_ns, p.seq, p.recorded_at)
),

last as materialized (
    select m.thread_id, m.checkpoint_ns, m.seq, m.recorded_at, m.rows
    from measured as m
    where m.number = 1 or m.bytes_so_far <= %(bytes)s
    order by m.number desc
    limit 1
)

select
    e.seq, e.base_seq, e.recorded_at, e.body, e.kind, e.checkpoint_id, e.checkpoint_ns, e.thread_id, e.position,
    e.digest, e.state_digest, e.origin_base_seq, e.origin_body_digest, e.xid::text as xid,
    (select l.rows from last as l) as rows,
    e.xid >= pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
    and coalesce(e.xid <> pg_catalog.pg_current_xact_id_if_assigned(), true) as is_ahead,
    pg_catalog.timestamptz_send(e.as_of) as as_of, pg_catalog.timestamptz_send(e.first_at) as first_at
from {schema}.events as e
where
    e.thread_id >= %(thread)s
    and (e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at)
    > (%(thread)s, %(ns)s, %(seq)s::bigint, coalesce(%(at)s::timestamptz, '-infinity'))
    and (e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at) <= (
        select l.thread_id, l.checkpoint_ns, l.seq, l.recorded_at from last as l
    )
order by e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at
limit %(rows)s;

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
-- Where `streams`, `checkpoints` and `snapshots` differ from the log, as far as that can be told without decoding
-- bodies. One statement, so that all of it is from one moment. The condition on thread_id repeats what the one on the
-- stream implies: it tells the planner how few streams there are. The one on
-- a single thread lets Citus run all of it where that thread is.
with tips as (
    select
        s.thread_id, s.checkpoint_ns, s.seq, s.epoch, s.latest_checkpoint_id, s.written_through, s.erased_through,
        s.begins_at, s.active_at, s.updated_at
    from {schema}.streams as s
    where
        s.thread_id >= %(thread)s
        and (%(only)s::text is null or s.thread_id = %(only)s)
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
        and (%(only)s::text is null or e.thread_id = %(only)s)
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
        and (%(only)s::text is null or c.thread_id = %(only)s)
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
            -- A greater epoch is allowed: a rebuild raised it.
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
        and (%(only)s::text is null or n.thread_id = %(only)s)
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
-- The first of these threads of which the log has no trace.
with known as materialized (
    select distinct s.thread_id
    from {schema}.streams as s
    where s.thread_id = any(%(threads)s::text[])
),

rest as materialized (
    select pg_catalog.array_agg(t.thread_id) as threads
    from pg_catalog.unnest(%(threads)s::text[]) as t (thread_id)
    left join known as k on t.thread_id = k.thread_id
    where k.thread_id is null
),

traces as materialized (
    select e.thread_id
    from {schema}.events as e
    where e.thread_id = any((select r.threads from rest as r)::text[])
    union
    select c.thread_id
    from {schema}.checkpoints as c
    where c.thread_id = any((select r.threads from rest as r)::text[])
    union
    select n.thread_id
    from {schema}.snapshots as n
    where n.thread_id = any((select r.threads from rest as r)::text[])
)

select u.thread_id
from rest as r
cross join lateral pg_catalog.unnest(r.threads) as u (thread_id)
left join traces as t on u.thread_id = t.thread_id
where t.thread_id is null
order by u.thread_id
limit 1;
