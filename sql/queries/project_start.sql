insert into {schema}.projections as p (name, version, source)
values (%s, %s, %s)
on conflict (name) do update set
    version = excluded.version, source = excluded.source, generation = null, xid = null, position = null, events = 0,
    started_at = clock_timestamp(), applied_at = null, caught_up_at = null
