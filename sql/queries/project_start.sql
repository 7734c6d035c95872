insert into {schema}.projections as p (name, version, source, started_at)
values (%s, %s, %s, {schema}.clock_v1())
on conflict (name) do update set
    version = excluded.version, source = excluded.source, generation = null, xid = null, position = null, events = 0,
    started_at = excluded.started_at, applied_at = null, caught_up_at = null
