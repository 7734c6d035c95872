insert into {schema}.rebuilds (started_at, settings, claim, seen_at, since, dropped)
values ({schema}.clock_v1(), %s::jsonb, %s, {schema}.clock_v1(), %s::xid8, %s)
returning id
