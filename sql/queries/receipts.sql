-- What receipts are made of.

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
