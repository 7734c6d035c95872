select
    r.id, r.settings::text, r.claim, r.seen_at, r.thread_id, r.checkpoint_ns, r.is_listed, r.events, r.since::text,
    r.dropped
from {schema}.rebuilds as r
where r.finished_at is null
