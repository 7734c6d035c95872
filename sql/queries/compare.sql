-- Comparing projections with the log.

-- name: compare_checkpoints
-- Rows of a stream's checkpoints that differ from the derived ones, with the differing columns. A keyframe may differ
-- if it is an existing checkpoint event at or before the checkpoint's. Metadata is user content: only its hash is
-- shown. `order by` makes each lookup one of an index: a scan of the stream for each page would be quadratic.
select
    r.checkpoint_id, v.columns, v.live, v.derived, c.checkpoint_id is null as is_missing
from pg_catalog.jsonb_populate_recordset(null::{schema}.checkpoints, %(rows)s::jsonb) as r
left join lateral (
    select o.*
    from {schema}.checkpoints as o
    where
        o.thread_id = %(thread_id)s and o.checkpoint_ns = %(checkpoint_ns)s and o.checkpoint_id = r.checkpoint_id
    order by o.checkpoint_id
) as c on true
left join lateral (
    select e.seq
    from {schema}.events as e
    where
        e.thread_id = %(thread_id)s and e.checkpoint_ns = %(checkpoint_ns)s and e.seq = c.keyframe_seq
        and e.recorded_at = c.keyframe_at and e.kind = 1 and e.seq <= r.seq
    order by e.seq
) as k on true
left join lateral (
    select
        pg_catalog.array_agg(n.key order by n.key) as columns,
        pg_catalog.array_agg(
            case when n.key = 'metadata' then pg_catalog.md5(o.value) else o.value end order by n.key
        ) as live,
        pg_catalog.array_agg(
            case when n.key = 'metadata' then pg_catalog.md5(n.value) else n.value end order by n.key
        ) as derived
    from pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(r.*)) as n
    inner join pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(c.*)) as o on n.key = o.key
    where
        n.value is distinct from o.value
        and (k.seq is null or n.key not in ('keyframe_seq', 'keyframe_at'))
) as v on true
where
    c.checkpoint_id is null
    or k.seq is null
    or pg_catalog.to_jsonb(c.*) - array['keyframe_seq', 'keyframe_at']
    <> pg_catalog.to_jsonb(r.*) - array['keyframe_seq', 'keyframe_at']
order by r.seq;

-- name: compare_counts
-- How many live rows a stream has in each table.
select
    (
        select pg_catalog.count(*) from {schema}.checkpoints as c
        where c.thread_id = %(thread_id)s and c.checkpoint_ns = %(checkpoint_ns)s
    ),
    (
        select pg_catalog.count(*) from {schema}.snapshots as s
        where s.thread_id = %(thread_id)s and s.checkpoint_ns = %(checkpoint_ns)s
    );

-- name: compare_snapshot
-- The body of a large snapshot.
select s.body from {schema}.snapshots as s
where s.thread_id = %s and s.checkpoint_ns = %s and s.seq = %s;

-- name: compare_snapshots
-- The live snapshots in a range of numbers; large ones without their bodies.
select s.seq, s.recorded_at, case when pg_catalog.octet_length(s.body) <= 65536 then s.body end as body
from {schema}.snapshots as s
where s.thread_id = %s and s.checkpoint_ns = %s and s.seq > %s and s.seq <= %s
order by s.seq;

-- name: compare_stream
-- The columns in which a stream's row (null: it is missing) differs from the derived one. A greater epoch is allowed: a
-- rebuild raised it. A name that no seal has cannot be derived.
with live as (
    select c.key, c.value
    from {schema}.streams as s
    cross join lateral pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(s.*)) as c
    where s.thread_id = %(thread_id)s and s.checkpoint_ns = %(checkpoint_ns)s
)

select n.key, l.value as live, n.value as derived, l.key is null as is_missing
from
    pg_catalog.jsonb_each_text(
        pg_catalog.to_jsonb(pg_catalog.jsonb_populate_record(null::{schema}.streams, %(row)s::jsonb))
    ) as n
left join live as l on n.key = l.key
where
    l.key is null
    or n.key <> 'epoch' and n.value is distinct from l.value and (n.key <> 'name' or n.value is not null)
    or n.key = 'epoch' and n.value::bigint > l.value::bigint
order by n.key;

-- name: compare_surplus
-- Rows of a stream in a table that have no event. Not by an anti-join, which may be planned as nested loops.
select p.{key}
from {schema}.{table} as p
where p.thread_id = %(thread_id)s and p.checkpoint_ns = %(checkpoint_ns)s
except
select e.{key}
from {schema}.events as e
where
    e.thread_id = %(thread_id)s
    and e.checkpoint_ns = %(checkpoint_ns)s
    and e.recorded_at >= coalesce(%(begins_at)s::timestamptz, '-infinity')
    and e.kind = 1
order by {key}
limit %(rows)s;
