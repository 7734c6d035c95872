update {schema}.projections as p
set
    generation = %(generation)s,
    xid = %(xid)s::text::xid8,
    position = %(position)s,
    events = p.events + %(events)s,
    applied_at = {schema}.clock_v1(),
    caught_up_at = case when %(is_end)s then coalesce(p.caught_up_at, {schema}.clock_v1()) else p.caught_up_at end
where p.name = %(name)s
returning p.name
