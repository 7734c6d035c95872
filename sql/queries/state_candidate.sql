-- What a stream's latest checkpoint was at a time, and what is known of what was erased since.
--   checkpoint_id  the greatest that was saved by then, of what is left
--   seq            the event that was its current one then
--   rewritten      whether what a later checkpoint was then is gone: it was put again since, and only that is left
--   next_seq       the number of the first event after that time
--   is_dropped     whether partitions of that time were dropped: of what was deleted before that, no trace may be left
--   now            the time of the database; null when the thread never was
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
        select min(l.seq) from logged as l
        where l.saved_at > %(time)s
    ) as next_seq,
    exists(
        select 1 from {schema}.partitions as p
        where p.dropped_at is not null and p.ends_at > %(time)s
    ) as is_dropped,
    case when t.updated_at is not null then greatest(t.updated_at, {schema}.clock_v1()) end as now
from (
    select max(s.updated_at) as updated_at from {schema}.streams as s
    where s.thread_id = %(thread_id)s
) as t
left join candidate as c on true
