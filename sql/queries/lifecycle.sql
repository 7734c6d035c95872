-- Erasing, relocating and copying the events of threads.

-- name: lock_streams
-- Locks the rows of threads' streams: the root's row first, as every append and every operation does.
select o_thread_id, o_checkpoint_ns from {schema}.lock_streams_v1(%s);

-- name: lock_thread
-- The same for one thread.
select {schema}.lock_thread_v1(%s) as namespaces;

-- name: stream_tips
-- The streams of threads, with the head of each.
select
    s.thread_id, s.checkpoint_ns, s.seq, s.digest, s.begins_at, s.active_at,
    s.latest_checkpoint_id is not null or s.written_through is not null as has_data,
    {schema}.record_details_v1(e.body) as last_operation,
    greatest(s.updated_at + interval '1 microsecond', {schema}.clock_v1()) as now
from {schema}.streams as s
left join {schema}.events as e
    on
        s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns and s.seq = e.seq
        and s.updated_at = e.recorded_at and e.kind > 2
where s.thread_id = any(%s)
order by s.thread_id, s.checkpoint_ns;

-- name: outline_events
-- The events of a thread without bodies.
select
    e.seq, e.base_seq, e.recorded_at, e.kind, e.checkpoint_id, e.checkpoint_ns, e.thread_id, e.position, e.digest,
    e.as_of, pg_catalog.octet_length(e.body) as bytes
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where e.thread_id = %s and e.recorded_at >= coalesce(s.begins_at, '-infinity')
order by e.checkpoint_ns, e.seq;

-- name: outline_checkpoints
-- The rows of `checkpoints` of a thread.
select
    c.checkpoint_ns, c.checkpoint_id, c.seq, c.parent_checkpoint_id, c.recorded_at, c.first_at,
    c.keyframe_seq, c.keyframe_at, c.state_bytes, c.run_id, c.metadata -> 'parents'::text ->> ''::text as root_id,
    array(
        select pg_catalog.jsonb_object_keys(
            case pg_catalog.jsonb_typeof(c.metadata -> 'counters_since_delta_snapshot'::text)
                when 'object' then c.metadata -> 'counters_since_delta_snapshot'::text
                else '{{}}'::jsonb
            end
        )
    ) as delta_channels
from {schema}.checkpoints as c
where c.thread_id = %s
order by c.checkpoint_ns, c.seq;

-- name: outline_snapshots
-- The snapshots of a thread without bodies.
select s.checkpoint_ns, s.seq, pg_catalog.octet_length(s.body) as bytes
from {schema}.snapshots as s
where s.thread_id = %s;

-- name: delete_thread
-- Erases a thread.
select o_is_idle, o_events, o_checkpoints, o_bytes from {schema}.delete_thread_v1(%s, %s, %s, %s, %s);

-- name: relocate_events
-- Relocates events of a stream.
select {schema}.relocate_events_v1(%s, %s, %s, %s, %s, %s, %b);

-- name: cut_stream
-- Erases a part of a stream.
select
    {schema}.cut_stream_v1(
        %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s,
        %s, %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::boolean[], %s, %s
    );

-- name: copy_stream
-- Copies a stream to another thread.
select o_events, o_checkpoints from {schema}.copy_stream_v1(%s, %s, %s, %s, %s, %s, %s, %s::jsonb);

-- name: purge_tables
-- The tables that may hold bytes of erased threads (null: of any): those of the log, except for partitions that had
-- none of their events, and those that registered projections name. With size, whether the user may rewrite the table,
-- and projection.
with times as (
    select e.recorded_at as at
    from {schema}.events as e
    where e.thread_id = any(%(threads)s::text[])
    union all
    -- Encoded by timestamptz_send: microseconds since 2000.
    select
        timestamptz '2000-01-01 00:00:00+00' + pg_catalog.make_interval(
            secs
            => ('x'::text || pg_catalog.encode(r.o_at, 'hex'))::pg_catalog.bit(64)::bigint::double precision
            / 1000000::double precision
        ) as at
    from {schema}.events as e
    cross join lateral {schema}.record_stubs_v1(e.body) as r
    where e.thread_id = any(%(threads)s::text[]) and e.kind in (3, 4)
),

holding as materialized (
    select p.name
    from times as t
    inner join {schema}.partitions as p on t.at >= p.starts_at and t.at < p.ends_at
    where p.dropped_at is null
    group by p.name
),

tables as materialized (
    select c.oid as table_oid, null as projection
    from pg_catalog.pg_class as c
    left join {schema}.partitions as p on c.relname = p.name
    left join holding as h on p.name = h.name
    where
        c.relnamespace = '{schema}'::regnamespace::oid and c.relkind = 'r'
        -- The log's schema may also hold tables of the user's own.
        and (
            p.name is not null and (%(threads)s::text[] is null or h.name is not null)
            or c.relname in ('checkpoints', 'set_aside', 'snapshots', 'streams')
        )
    union all
    select pg_catalog.to_regclass(t.name)::oid as table_oid, j.name as projection
    from {schema}.projections as j
    cross join lateral pg_catalog.unnest(j.tables) as t (name)
)

select
    t.projection, n.nspname::text as schema_name, c.relname::text as table_name,
    z.o_bytes as bytes, pg_catalog.pg_has_role(c.relowner, 'usage') as may,
    pg_catalog.pg_get_userbyid(c.relowner)::text as owner
from tables as t
inner join pg_catalog.pg_class as c on t.table_oid = c.oid
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
inner join {schema}.relation_sizes_v1(array(select w.table_oid from tables as w)) as z on t.table_oid = z.o_relation
where c.relkind in ('r', 'm') and z.o_heap_bytes + z.o_toast_bytes > 0
order by t.projection is not null, bytes, table_name;

-- name: purge_behind
-- The projections that have not reached the record of an erasure (of these threads; null: of any), and how many events
-- each is behind, counted up to %(most)s.
with erasures as (
    select e.xid, e.position
    from {schema}.events as e
    where e.kind in (3, 4) and (%(threads)s::text[] is null or e.thread_id = any(%(threads)s::text[]))
),

cursors as (
    select
        p.name, coalesce(p.xid, '0'::xid8) as xid, coalesce(p.position, 0) as position,
        coalesce(b.after_position, 0) as begins, coalesce(f.after_position, 9223372036854775807) as ends
    from {schema}.projections as p
    left join {schema}.generations as b on p.generation = b.generation
    left join {schema}.generations as f on coalesce(p.generation, 1) + 1 = f.generation
)

select
    c.name,
    (
        select pg_catalog.count(*)
        from (
            select from {schema}.events as e
            where e.position > c.ends or e.position > c.begins and (e.xid, e.position) > (c.xid, c.position)
            limit %(most)s -- noqa: AM09
        ) as w
    ) as events
from cursors as c
where
    exists (
        select from erasures as e
        where e.position > c.ends or e.position > c.begins and (e.xid, e.position) > (c.xid, c.position)
    )
order by c.name;

-- name: purge_holders
-- Transactions that may still see rows of the erased threads, so that a rewrite would keep these rows: sessions and
-- background workers in this database or in none, prepared transactions and replication slots, by the transaction ids
-- that vacuum respects. Autovacuum workers do not count while they vacuum without analyzing.
with erased as (
    select pg_catalog.age(e.xid::xid) as age
    from {schema}.events as e
    where e.kind in (3, 4) and (%(threads)s::text[] is null or e.thread_id = any(%(threads)s::text[]))
    order by e.xid desc
    limit 1
)

select
    pg_catalog.format(
        'process %%s of user %%s, %%s', a.pid, coalesce(a.usename, '-'), coalesce(a.state, a.backend_type)
    ) as holder
from pg_catalog.pg_stat_activity as a
inner join erased as e
    on greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) >= e.age
where
    a.pid <> pg_catalog.pg_backend_pid()
    and (a.datname = pg_catalog.current_database() or a.datname is null or a.backend_type = 'walsender')
    and not (
        a.backend_type = 'autovacuum worker'
        and a.query like 'autovacuum: VACUUM%%' and a.query not like 'autovacuum: VACUUM ANALYZE%%'
    )
union all
select pg_catalog.format('the prepared transaction %%s', x.gid) as holder
from pg_catalog.pg_prepared_xacts as x
inner join erased as e on pg_catalog.age(x.transaction) >= e.age
where x.database = pg_catalog.current_database()
union all
select pg_catalog.format('the replication slot %%s', r.slot_name) as holder
from pg_catalog.pg_replication_slots as r
inner join erased as e on pg_catalog.age(r.xmin) >= e.age;

-- name: purge_table
-- Rewrites a table without the erased rows.
vacuum (full, analyze) {table};

-- name: purge_size
-- The size of a table now.
select z.o_bytes as bytes
from {schema}.relation_sizes_v1(
    array(
        select c.oid
        from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = %s and c.relname = %s
    )
) as z;
