insert into {schema}.rebuilds (started_at, settings, claim, seen_at, since, dropped)
values (clock_timestamp(), %s::jsonb, %s, clock_timestamp(), %s::xid8, %s)
returning id
