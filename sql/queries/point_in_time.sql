-- The state of a thread at a time or an event.

-- name: state_candidate
-- A stream's latest checkpoint at a time, as far as the log still tells.
--   checkpoint_id  the greatest remaining id that was saved by then
--   seq            the event that was its current one then
--   rewritten      whether a later checkpoint existed then but was put again since, so that its event of then is gone
--   next_seq       the number of the first event after that time
--   is_dropped     whether partitions of that time were dropped: deletions before the drop may have left no trace
--   now            the time of the database; null if the thread never existed
with logged as (
    select
        e.seq, e.kind, e.checkpoint_id, e.first_at,
        case when e.kind in (1, 2) then coalesce(e.as_of, e.recorded_at) else e.recorded_at end as saved_at
    from {schema}.events as e
    where
        e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s
        and e.recorded_at >= coalesce(
            (
                select s.begins_at from {schema}.streams as s
                where s.thread_id = %(thread_id)s and s.checkpoint_ns = %(checkpoint_ns)s
            ), '-infinity'
        )
),

candidate as (
    select l.checkpoint_id, l.seq
    from logged as l
    where l.kind = 1 and l.saved_at <= %(time)s
    order by l.checkpoint_id desc, l.seq desc
    limit 1
)

select
    c.checkpoint_id, c.seq,
    exists(
        select 1 from logged as l
        where
            l.kind = 1 and l.saved_at > %(time)s and l.first_at <= %(time)s
            and l.checkpoint_id > coalesce(c.checkpoint_id, '')
    ) as rewritten,
    (
        select pg_catalog.min(l.seq) from logged as l
        where l.saved_at > %(time)s
    ) as next_seq,
    exists(
        select 1 from {schema}.partitions as p
        where p.dropped_at is not null and p.ends_at > %(time)s
    ) as is_dropped,
    case when t.updated_at is not null then greatest(t.updated_at, {schema}.clock_v1()) end as now
from (
    select pg_catalog.max(s.updated_at) as updated_at from {schema}.streams as s
    where s.thread_id = %(thread_id)s
) as t
left join candidate as c on true;

-- name: state_records
-- The erasures from a stream, oldest first.
select e.seq, e.checkpoint_id, e.body, e.recorded_at > %(time)s as is_later
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where
    e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s and e.kind in (3, 4)
    and e.recorded_at >= coalesce(s.begins_at, '-infinity')
order by e.seq;

-- name: state_seqs
-- The numbers up to a limit that still have events in a stream.
select e.seq
from {schema}.events as e
inner join {schema}.streams as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
where
    e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s and e.seq < %(next_seq)s
    and e.recorded_at >= coalesce(s.begins_at, '-infinity');

-- name: state_writes
-- The writes of a checkpoint that existed at a time.
select e.seq, e.base_seq, e.recorded_at, e.body
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
where
    e.thread_id = %(thread_id)s
    and e.checkpoint_ns = %(checkpoint_ns)s
    and e.checkpoint_id = %(checkpoint_id)s
    and e.kind = 2
    and e.recorded_at >= coalesce(t.begins_at, '-infinity')
    and coalesce(e.as_of, e.recorded_at) <= %(time)s
order by e.seq;
