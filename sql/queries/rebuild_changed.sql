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
limit %(rows)s
