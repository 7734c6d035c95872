update {schema}.rebuilds as r
set
    thread_id = %(thread_id)s, checkpoint_ns = %(checkpoint_ns)s, is_listed = %(is_listed)s,
    events = r.events + %(events)s, since = %(since)s::xid8, dropped = %(dropped)s, seen_at = {schema}.clock_v1()
where r.id = %(id)s and r.claim = %(claim)s
returning r.id
