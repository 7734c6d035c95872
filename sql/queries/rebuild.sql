-- Rebuilding the projections: deriving streams, and writing what differs.

-- name: derive_begin
-- The time before which a stream's events are void, and for each checkpoint that was put more than once the first and
-- the last event, and the time of the first.
with begun as (
    select pg_catalog.max(e.as_of) as at
    from {schema}.events as e
    where e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s and e.kind > 2
)

select b.at, r.checkpoint_id, r.first_seq, r.last_seq, r.first_at
from begun as b
left join lateral (
    select
        e.checkpoint_id, pg_catalog.min(e.seq) as first_seq, pg_catalog.max(e.seq) as last_seq,
        (pg_catalog.array_agg(coalesce(e.first_at, e.recorded_at) order by e.seq))[1] as first_at
    from {schema}.events as e
    where
        e.thread_id = %(thread_id)s
        and e.checkpoint_ns = %(checkpoint_ns)s
        and e.recorded_at >= coalesce(b.at, '-infinity')
        and e.kind = 1
    group by e.checkpoint_id
    having pg_catalog.count(*) > 1
) as r on true;

-- name: derive_name
-- The name that seals have for a stream. A statement of its own: on Citus no function on a thread is called by another
-- statement about it.
select {schema}.find_stream_name_v1(%s, %s) as name;

-- name: derive_events
-- The next events of a stream, in the order of their numbers; bodies of writes only if writes are checked.
select
    e.seq, e.kind, e.checkpoint_id, e.base_seq, e.recorded_at, e.as_of, e.first_at, e.digest,
    e.xid::text as xid, e.position, e.state_digest,
    case when e.kind = 1 or e.kind = 2 and %(writes)s then e.body end as body
from {schema}.events as e
where
    e.thread_id = %(thread_id)s
    and e.checkpoint_ns = %(checkpoint_ns)s
    and e.recorded_at >= coalesce(%(begins_at)s::timestamptz, '-infinity')
    and e.seq > %(seq)s
order by e.seq
limit %(rows)s;

-- name: derive_base
-- A checkpoint's event, without its snapshot, which may be wrong.
select e.seq, e.base_seq, e.recorded_at, e.body
from {schema}.events as e
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.recorded_at >= coalesce(%s::timestamptz, '-infinity')
    and e.seq = %s
    and e.kind = 1;

-- name: rebuild_streams
-- The next streams that have events or derived rows. Each subquery goes along the key of its table and stops at the
-- last stream of the page; of a long stream it reads the key of each event, which costs little beside deriving it.
select n.thread_id, n.checkpoint_ns
from (
    (
        select distinct e.thread_id, e.checkpoint_ns
        from {schema}.events as e
        where (e.thread_id, e.checkpoint_ns) > (%(thread_id)s, %(checkpoint_ns)s)
        order by e.thread_id, e.checkpoint_ns
        limit %(rows)s
    )
    union
    (
        select s.thread_id, s.checkpoint_ns
        from {schema}.streams as s
        where (s.thread_id, s.checkpoint_ns) > (%(thread_id)s, %(checkpoint_ns)s)
        order by s.thread_id, s.checkpoint_ns
        limit %(rows)s
    )
    union
    (
        select distinct c.thread_id, c.checkpoint_ns
        from {schema}.checkpoints as c
        where (c.thread_id, c.checkpoint_ns) > (%(thread_id)s, %(checkpoint_ns)s)
        order by c.thread_id, c.checkpoint_ns
        limit %(rows)s
    )
    union
    (
        select distinct s.thread_id, s.checkpoint_ns
        from {schema}.snapshots as s
        where (s.thread_id, s.checkpoint_ns) > (%(thread_id)s, %(checkpoint_ns)s)
        order by s.thread_id, s.checkpoint_ns
        limit %(rows)s
    )
) as n
order by n.thread_id, n.checkpoint_ns
limit %(rows)s;

-- name: rebuild_total
-- The planner's estimate of the number of events.
select coalesce(pg_catalog.sum(greatest(c.reltuples::bigint, pg_catalog.pg_stat_get_live_tuples(c.oid), 0)), 0)::bigint
from {schema}.partitions as p
inner join pg_catalog.pg_class as c on p.name = c.relname and c.relnamespace = '{schema}'::regnamespace
where p.dropped_at is null;

-- name: rebuild_counts
-- How many rows each table has.
select
    (select pg_catalog.count(*) from {schema}.streams), (select pg_catalog.count(*) from {schema}.checkpoints),
    (select pg_catalog.count(*) from {schema}.snapshots);

-- name: rebuild_restart
-- Resets the progress of a rebuild that began before the log was restored, or that must begin again.
update {schema}.rebuilds as r
set thread_id = '', checkpoint_ns = '', events = 0, streams = 0, checkpoints = 0, snapshots = 0
where r.finished_at is null and (%(restart)s or r.generation is distinct from %(generation)s::integer);

-- name: rebuild_start
-- Begins a rebuild, or continues the unfinished one.
insert into {schema}.rebuilds as r (started_at, generation)
values ({schema}.clock_v1(), %(generation)s::integer)
on conflict ((finished_at is null)) where finished_at is null do update set generation = excluded.generation
returning r.id, r.losses, r.thread_id, r.checkpoint_ns, r.events, r.streams, r.checkpoints, r.snapshots;

-- name: rebuild_advance
-- Notes the progress of a rebuild, unless another worker or call is further.
update {schema}.rebuilds as r
set
    thread_id = %(thread_id)s, checkpoint_ns = %(checkpoint_ns)s, events = %(events)s, streams = %(streams)s,
    checkpoints = %(checkpoints)s, snapshots = %(snapshots)s
where
    r.id = %(id)s and r.finished_at is null and r.losses = %(losses)s
    and (r.thread_id, r.checkpoint_ns) < (%(thread_id)s, %(checkpoint_ns)s);

-- name: rebuild_finish
-- Ends a rebuild, unless rows of `streams` were deleted in the meantime. Clears the thread's id, which may be personal
-- data and must not outlive the thread.
update {schema}.rebuilds as r
set finished_at = coalesce(r.finished_at, %(at)s), thread_id = '', checkpoint_ns = ''
where r.id = %(id)s and r.losses = %(losses)s
returning r.id;

-- name: rebuild_adopt
-- Restores the lost row of a stream that has events.
select {schema}.adopt_stream_v1(%s, %s);

-- name: rebuild_epoch
-- A stream's epoch; no row if `streams` has none.
select s.epoch from {schema}.streams as s
where s.thread_id = %s and s.checkpoint_ns = %s;

-- name: rebuild_lock
-- Locks a stream's row, unless something was erased or replaced since its epoch was read. Raises the epoch, so that
-- writers read the stream again.
update {schema}.streams as s
set epoch = case when %(raises)s then greatest(s.epoch, s.seq) + 1 else s.epoch end
where s.thread_id = %(thread_id)s and s.checkpoint_ns = %(checkpoint_ns)s and s.epoch = %(epoch)s
returning s.epoch, s.seq, pg_catalog.encode(s.digest, 'hex'), coalesce(s.erased_through, '');

-- name: rebuild_put_checkpoints
-- Inserts or corrects rows of checkpoints.
insert into {schema}.checkpoints as c (
    thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id, keyframe_seq,
    keyframe_at, state_bytes, run_id, metadata
)
select
    r.thread_id, r.checkpoint_ns, r.checkpoint_id, r.seq, r.recorded_at, r.first_at, r.parent_checkpoint_id,
    r.keyframe_seq, r.keyframe_at, r.state_bytes, r.run_id, r.metadata
from pg_catalog.jsonb_populate_recordset(null::{schema}.checkpoints, %s::jsonb) as r
on conflict (thread_id, checkpoint_ns, checkpoint_id) do update set
    seq = excluded.seq, recorded_at = excluded.recorded_at, first_at = excluded.first_at,
    parent_checkpoint_id = excluded.parent_checkpoint_id, keyframe_seq = excluded.keyframe_seq,
    keyframe_at = excluded.keyframe_at, state_bytes = excluded.state_bytes, run_id = excluded.run_id,
    metadata = excluded.metadata;

-- name: rebuild_put_snapshot
-- Inserts or corrects a snapshot.
insert into {schema}.snapshots as s (thread_id, checkpoint_ns, seq, recorded_at, body)
values (%s, %s, %s, %s, %s)
on conflict (thread_id, checkpoint_ns, seq) do update set recorded_at = excluded.recorded_at, body = excluded.body;

-- name: rebuild_put_stream
-- Corrects a stream's row. Its number only grows, as lost events have used theirs. It keeps a name that no seal has.
update {schema}.streams as s
set
    name = coalesce(r.name, s.name), seq = greatest(s.seq, r.seq),
    digest = case when s.seq > r.seq then s.digest else r.digest end, xid = r.xid,
    epoch = greatest(s.epoch, r.epoch), erased_through = r.erased_through, begins_at = r.begins_at,
    written_through = r.written_through, active_at = r.active_at, updated_at = coalesce(r.updated_at, s.updated_at),
    latest_checkpoint_id = r.latest_checkpoint_id
from pg_catalog.jsonb_populate_record(null::{schema}.streams, %s::jsonb) as r
where s.thread_id = r.thread_id and s.checkpoint_ns = r.checkpoint_ns;

-- name: rebuild_delete_surplus
-- Deletes surplus rows of a table. The stream's row is locked, or the stream has no events.
delete from {schema}.{table} as p
where
    p.thread_id = %(thread_id)s
    and p.checkpoint_ns = %(checkpoint_ns)s
    and p.{key} = any(%(keys)s)
    and (
        %(is_locked)s
        or not exists (
            select 1 from {schema}.events as e
            where e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s
        )
    );

-- name: rebuild_record_loss
-- Appends the record of a loss: events are missing, and the user who rebuilds accepts it.
select {schema}.record_operation_v1(
    %(thread_id)s, %(checkpoint_ns)s, 4::smallint, %(through)s, null, 'accept_loss', null,
    pg_catalog.jsonb_build_object(
        'lost',
        pg_catalog.jsonb_build_array(
            pg_catalog.jsonb_build_array(%(first)s::bigint, %(last)s::bigint, %(digest)s::text)
        )
    )
);
