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
where r.thread_id = %s and r.checkpoint_ns = %s
