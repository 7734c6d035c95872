-- Rebuilding the projections.

-- name: rebuild_advance
-- Notes how far the first pass has come.
update {schema}.rebuilds as r
set
    thread_id = %(thread_id)s, checkpoint_ns = %(checkpoint_ns)s, is_listed = %(is_listed)s,
    events = r.events + %(events)s, since = %(since)s::xid8, dropped = %(dropped)s, seen_at = {schema}.clock_v1()
where r.id = %(id)s and r.claim = %(claim)s
returning r.id;

-- name: rebuild_analyze
-- Collects the planner's statistics of the rebuilt tables.
analyze {schema}.streams_rebuilt, {schema}.checkpoints_rebuilt, {schema}.snapshots_rebuilt;

-- name: rebuild_base
-- A checkpoint's event, with the snapshot that the rebuild has taken there.
select e.seq, e.base_seq, e.recorded_at, e.body, s.body as snapshot
from {schema}.events as e
left join {schema}.snapshots_rebuilt as s
    on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns and e.seq = s.seq
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq = %s
    and e.kind = 1;

-- name: rebuild_base_alone
-- As rebuild_base, where nothing is written.
select e.seq, e.base_seq, e.recorded_at, e.body, null::bytea as snapshot
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq = %s
    and e.kind = 1;

-- name: rebuild_begin
-- Notes that a rebuild begins.
insert into {schema}.rebuilds (started_at, settings, claim, seen_at, since, dropped)
values ({schema}.clock_v1(), %s::jsonb, %s, {schema}.clock_v1(), %s::xid8, %s)
returning id;

-- name: rebuild_begins_at
-- What the stream recorded before is void.
select max(e.as_of)
from {schema}.events as e
where e.thread_id = %s and e.checkpoint_ns = %s and e.kind > 2;

-- name: rebuild_changed
-- The next streams with events that were not derived, among those that transactions appended from `since` on. Ids from
-- another cluster, from where the log was restored, may be beyond this one's counter: those are no candidates. A
-- stream that ended, went with its partition and was begun again has a row of its former life: its last event is gone.
select distinct e.thread_id, e.checkpoint_ns
from {schema}.events as e
left join {schema}.streams_rebuilt as r on e.thread_id = r.thread_id and e.checkpoint_ns = r.checkpoint_ns
left join {schema}.events as t
    on r.thread_id = t.thread_id and r.checkpoint_ns = t.checkpoint_ns and r.seq = t.seq and r.digest = t.digest
where
    e.xid >= %(since)s::xid8
    and e.xid < pg_snapshot_xmax(pg_current_snapshot())
    and (t.seq is null or e.seq > t.seq)
    and (e.thread_id, e.checkpoint_ns) > (%(thread_id)s, %(checkpoint_ns)s)
order by e.thread_id, e.checkpoint_ns
limit %(rows)s;

-- name: rebuild_claim
-- Its worker keeps the row locked in every transaction.
update {schema}.rebuilds as r
set claim = %(claim)s, seen_at = {schema}.clock_v1()
where r.id = %(id)s and r.finished_at is null;

-- name: rebuild_clear_checkpoints
-- Removes derived checkpoints of a stream: all, or those with these ids.
delete from {schema}.checkpoints_rebuilt as r
where
    r.thread_id = %(thread_id)s and r.checkpoint_ns = %(checkpoint_ns)s
    and (%(ids)s::text[] is null or r.checkpoint_id = any(%(ids)s::text[]));

-- name: rebuild_clear_differences
-- Forgets the differences of a stream.
delete from {schema}.rebuild_differences as d
where d.rebuild_id = %s and d.thread_id = %s and d.checkpoint_ns = %s;

-- name: rebuild_clear_snapshots
-- Removes the derived snapshots of a stream.
delete from {schema}.snapshots_rebuilt as r
where r.thread_id = %s and r.checkpoint_ns = %s;

-- name: rebuild_clear_stream
-- Removes the derived row of a stream.
delete from {schema}.streams_rebuilt as r
where r.thread_id = %s and r.checkpoint_ns = %s;

-- name: rebuild_counts
-- How many live rows each table has.
select
    (select count(*) from {schema}.streams), (select count(*) from {schema}.checkpoints),
    (select count(*) from {schema}.snapshots);

-- name: rebuild_derived
-- How far a stream was derived, what was appended to it since, and whether the last event that was derived is there.
select
    r.seq, r.epoch, r.latest_checkpoint_id, r.written_through, r.erased_through, r.begins_at, r.active_at,
    n.last_seq, coalesce(n.is_cut, false) or t.is_there is null as is_cut
from {schema}.streams_rebuilt as r
cross join
    lateral (
        select max(e.seq) as last_seq, bool_or(e.kind > 2) as is_cut
        from {schema}.events as e
        where e.thread_id = r.thread_id and e.checkpoint_ns = r.checkpoint_ns and e.seq > r.seq
    ) as n
left join
    lateral (
        select bool_or(true) as is_there
        from {schema}.events as e
        where
            e.thread_id = r.thread_id and e.checkpoint_ns = r.checkpoint_ns and e.seq = r.seq and e.digest = r.digest
    ) as t
    on true
where r.thread_id = %s and r.checkpoint_ns = %s;

-- name: rebuild_drop_old
-- Drops the tables that rebuilds have replaced.
select dropped from {schema}.drop_old_v1() as dropped;

-- name: rebuild_events
-- The next events of a stream, in the order of their numbers; only checkpoints with their bodies.
select
    e.seq, e.kind, e.checkpoint_id, e.base_seq, e.recorded_at, e.as_of, e.first_at, e.digest,
    e.xid::text as xid, e.position,
    case when e.kind = 1 then e.body end as body
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq > %s
order by e.seq
limit %s;

-- name: rebuild_finish
-- An id may be personal, and is not to outlive the thread.
update {schema}.rebuilds as r
set
    finished_at = {schema}.clock_v1(), seen_at = {schema}.clock_v1(), keeps_old = %s,
    thread_id = '', checkpoint_ns = ''
where r.id = %s;

-- name: rebuild_first_at
-- When checkpoints were saved first, of those that are derived already.
select r.checkpoint_id, r.first_at
from {schema}.checkpoints_rebuilt as r
where r.thread_id = %s and r.checkpoint_ns = %s and r.checkpoint_id = any(%s);

-- name: rebuild_forget_differences
-- Forgets the differences of a rebuild.
delete from {schema}.rebuild_differences;

-- name: rebuild_hold
-- Locks a rebuild's row against a takeover of its claim, and tells whether the rebuild is finished.
select r.finished_at is not null
from {schema}.rebuilds as r
where r.id = %s and r.claim = %s
for share;

-- name: rebuild_left
-- How many events have to be derived to bring streams up to date: of each as many as are asked for at most.
select count(*)
from unnest(%(threads)s::text[], %(namespaces)s::text[]) as s (thread_id, checkpoint_ns)
left join {schema}.streams_rebuilt as r on s.thread_id = r.thread_id and s.checkpoint_ns = r.checkpoint_ns
cross join
    lateral (
        select e.seq
        from {schema}.events as e
        where
            e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
            and e.seq > case
                when
                    exists (
                        select 1 from {schema}.events as c
                        where
                            c.thread_id = s.thread_id and c.checkpoint_ns = s.checkpoint_ns and c.seq > r.seq
                            and c.kind > 2
                    )
                    then 0
                else coalesce(r.seq, 0)
            end
        order by e.seq
        limit %(rows)s
    ) as e;

-- name: rebuild_lock
-- Keeps readers and writers out for the swap.
lock table {schema}.streams, {schema}.checkpoints, {schema}.snapshots in access exclusive mode;

-- name: rebuild_make
-- Makes the tables that a rebuild fills.
select {schema}.make_rebuilt_v1();

-- name: rebuild_name_differences
-- The first differences of a rebuild, row by row.
select x.thread_id, x.checkpoint_ns, x.table, x.key, x.what, x.columns, x.live, x.derived
from {schema}.rebuild_differences as d
cross join
    lateral jsonb_to_recordset(d.examples)
        as x (
            thread_id text,
            checkpoint_ns text,
            "table" text,
            key text,
            what text,
            columns jsonb,
            live jsonb,
            derived jsonb
        )
where d.rebuild_id = %s
order by d.thread_id, d.checkpoint_ns
limit %s;

-- name: rebuild_now
-- Every transaction below is over; which partitions were dropped so far.
select
    pg_snapshot_xmin(pg_current_snapshot())::text,
    coalesce(md5(string_agg(p.name || ' ' || p.dropped_at, ',' order by p.name)), '')
from {schema}.partitions as p
where p.dropped_at is not null;

-- name: rebuild_obstacles
-- What hangs on the tables that a rebuild replaces, and would stay with the old ones.
select distinct o.what
from (
    select pg_describe_object(d.classid, d.objid, 0) as what
    from pg_catalog.pg_depend as d
    inner join pg_catalog.pg_class as c
        on
            d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid
            or d.refclassid = 'pg_catalog.pg_type'::regclass and d.refobjid = c.reltype
    where
        c.relnamespace = '{schema}'::regnamespace
        and c.relname in ('streams', 'checkpoints', 'snapshots')
        and (
            d.deptype = 'n' and d.classid <> 'pg_catalog.pg_constraint'::regclass
            or d.classid in (
                'pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_publication_rel'::regclass,
                'pg_catalog.pg_trigger'::regclass
            )
        )
    union all
    select 'row level security of table ' || c.oid::regclass
    from pg_catalog.pg_class as c
    where
        c.relnamespace = '{schema}'::regnamespace
        and c.relname in ('streams', 'checkpoints', 'snapshots')
        and (c.relrowsecurity or c.relforcerowsecurity)
) as o
order by o.what;

-- name: rebuild_peek
-- When a worker last worked on a rebuild; no row while one does.
select r.seen_at
from {schema}.rebuilds as r
where r.id = %s and r.finished_at is null
for update skip locked;

-- name: rebuild_put_checkpoints
-- Puts derived checkpoints in.
insert into {schema}.checkpoints_rebuilt
select r.* from jsonb_populate_recordset(null::{schema}.checkpoints_rebuilt, %s::jsonb) as r; -- noqa: AM04

-- name: rebuild_put_differences
-- Adds the differences of a stream.
insert into {schema}.rebuild_differences as d (
    rebuild_id, thread_id, checkpoint_ns, streams, checkpoints, snapshots, examples
)
values (%s, %s, %s, %s, %s, %s, %s::jsonb)
on conflict (rebuild_id, thread_id, checkpoint_ns) do update set
    streams = greatest(d.streams, excluded.streams), checkpoints = d.checkpoints + excluded.checkpoints,
    snapshots = d.snapshots + excluded.snapshots,
    examples = case when d.examples = '[]'::jsonb then excluded.examples else d.examples end;

-- name: rebuild_put_snapshot
-- Puts a derived snapshot in.
insert into {schema}.snapshots_rebuilt (thread_id, checkpoint_ns, seq, recorded_at, body)
values (%s, %s, %s, %s, %s);

-- name: rebuild_put_stream
-- By the names of the columns: one that is added is put in by its name too.
insert into {schema}.streams_rebuilt
select r.* from jsonb_populate_record(null::{schema}.streams_rebuilt, %s::jsonb) as r; -- noqa: AM04

-- name: rebuild_release
-- Gives up the claim on a rebuild.
update {schema}.rebuilds as r set claim = null
where r.id = %s and r.claim = %s;

-- name: rebuild_repeats
-- Checkpoints that were put more than once: when first, with which event first, and with which last.
select
    e.checkpoint_id, min(e.seq), max(e.seq),
    (array_agg(coalesce(e.first_at, e.recorded_at) order by e.seq))[1] as first_at
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq > %s
    and e.kind = 1
group by e.checkpoint_id
having count(*) > 1;

-- name: rebuild_streams
-- The next streams of the log. From stream to stream along the key: an event for each, however many there are.
with recursive next as (
    (
        select e.thread_id, e.checkpoint_ns, 1 as number
        from {schema}.events as e
        where (e.thread_id, e.checkpoint_ns) > (%(thread_id)s, %(checkpoint_ns)s)
        order by e.thread_id, e.checkpoint_ns
        limit 1
    )
    union all
    select n.thread_id, n.checkpoint_ns, x.number + 1
    from next as x
    cross join
        lateral (
            select e.thread_id, e.checkpoint_ns
            from {schema}.events as e
            where (e.thread_id, e.checkpoint_ns) > (x.thread_id, x.checkpoint_ns)
            order by e.thread_id, e.checkpoint_ns
            limit 1
        ) as n
    where x.number < %(rows)s
)

select x.thread_id, x.checkpoint_ns from next as x
order by x.number;

-- name: rebuild_sum_differences
-- How many rows of each table differed.
select
    coalesce(sum(d.streams), 0)::bigint, coalesce(sum(d.checkpoints), 0)::bigint, coalesce(sum(d.snapshots), 0)::bigint
from {schema}.rebuild_differences as d
where d.rebuild_id = %s;

-- name: rebuild_swap
-- Puts the rebuilt tables in the place of the live ones.
select {schema}.swap_rebuilt_v1(%s);

-- name: rebuild_sweep
-- Streams that had ended go from the log with their partitions, without an event that would say so: also those that had
-- not ended when they were derived.
with gone as (
    delete from {schema}.streams_rebuilt as r
    where
        not exists (
            select 1 from {schema}.events as e
            where e.thread_id = r.thread_id and e.checkpoint_ns = r.checkpoint_ns
        )
    returning r.thread_id, r.checkpoint_ns
),

checkpoints as (
    delete from {schema}.checkpoints_rebuilt as c
    using gone as g
    where c.thread_id = g.thread_id and c.checkpoint_ns = g.checkpoint_ns
),

snapshots as (
    delete from {schema}.snapshots_rebuilt as s
    using gone as g
    where s.thread_id = g.thread_id and s.checkpoint_ns = g.checkpoint_ns
)

delete from {schema}.rebuild_differences as d
using gone as g
where d.thread_id = g.thread_id and d.checkpoint_ns = g.checkpoint_ns;

-- name: rebuild_total
-- The server's estimate of how many events there are.
select coalesce(sum(greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid), 0)), 0)::bigint
from {schema}.partitions as p
inner join pg_catalog.pg_class as c on p.name = c.relname and c.relnamespace = '{schema}'::regnamespace
where p.dropped_at is null;

-- name: rebuild_under_way
-- The rebuild that is not finished, if there is one.
select
    r.id, r.settings::text, r.claim, r.seen_at, r.thread_id, r.checkpoint_ns, r.is_listed, r.events, r.since::text,
    r.dropped
from {schema}.rebuilds as r
where r.finished_at is null;
