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
having count(*) > 1
