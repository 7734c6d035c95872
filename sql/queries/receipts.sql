-- The content of receipts.

-- name: receipt_records
-- The erasures from a thread by its streams' records, oldest first, with the time of the stream's first event if it
-- still exists; nulls for a stream without such records.
select
    s.checkpoint_ns, s.name, e.seq, e.recorded_at, e.digest, e.body,
    (
        select pg_catalog.min(coalesce(f.as_of, f.recorded_at)) from {schema}.events as f
        where f.thread_id = s.thread_id and f.checkpoint_ns = s.checkpoint_ns and f.seq = 1
    ) as first_at
from {schema}.streams as s
left join {schema}.events as e
    on s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns and e.kind in (3, 4)
where s.thread_id = %s
order by s.checkpoint_ns, e.seq;

-- name: receipt_log
-- The log's id, and the current time.
select s.log_id, n.now
from {schema}.settings as s
cross join {schema}.clock_v1() as n (now);

-- name: receipt_partitions
-- The partitions that end between two times (null: from the first on), and when they were dropped.
select p.name, p.dropped_at
from {schema}.partitions as p
where p.ends_at <= %(before)s::timestamptz and (%(since)s::timestamptz is null or p.ends_at > %(since)s::timestamptz)
order by p.starts_at, p.name;
