-- Reading the log in the order of the feed.

-- name: read_feed
-- The next events after a cursor.
select
    f.o_newest, f.o_is_restored, f.o_is_known, f.o_last_position, f.o_last_xid::text::bigint as last_xid,
    f.o_xmax::text::bigint as xmax, f.o_is_standby, f.o_begins, f.o_xmin::text::bigint as xmin, f.o_node, f.o_keys,
    f.o_found, f.o_is_wanted, f.o_xid::text::bigint as xid, f.o_position,
    f.o_seq, f.o_base_seq, f.o_recorded_at, f.o_body, f.o_kind, f.o_checkpoint_id, f.o_checkpoint_ns, f.o_thread_id,
    f.o_position as position, f.o_digest, f.o_as_of, null::timestamptz as first_at, f.o_xid::text::bigint as event_xid,
    %(generation)s::integer as generation
from
    {schema}.read_feed_v1(
        %(generation)s::integer, %(xid)s::bigint::text::xid8, %(position)s::bigint, %(rows)s::bigint, %(bytes)s::bigint,
        %(threads)s::text[]
    ) as f;

-- name: feed_end
-- The last settled event of the newest generation.
with newest as materialized (
    select n.o_generation, n.o_is_restored, g.after_position
    from {schema}.newest_generation_v1() as n
    inner join {schema}.generations as g on n.o_generation = g.generation
),

final as (
    select e.xid::text::bigint as xid, e.position
    from {schema}.events as e
    where
        e.xid < pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())
        and e.position > (select n.after_position from newest as n)
    order by e.xid desc, e.position desc
    limit 1
)

select n.o_generation, n.o_is_restored, f.xid, f.position
from newest as n
left join final as f on true;

-- name: feed_lag
-- How many settled events follow a cursor, and how many are not settled yet. Counts stop at %(most)s.
with gate as materialized (
    select
        n.o_generation as newest,
        n.o_is_restored as is_restored,
        pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()) as xmin,
        pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) as xmax
    from {schema}.newest_generation_v1() as n
),

ranges as (
    select
        g.generation,
        g.after_position as begins,
        coalesce(f.after_position, 9223372036854775807) as ends,
        case when f.generation is null then t.xmin else '18446744073709551615'::xid8 end as unsettled_from,
        case when g.generation = %(generation)s then %(xid)s::bigint::text::xid8 else '0'::xid8 end as from_xid,
        case when g.generation = %(generation)s then %(position)s::bigint else 0 end as from_position
    from {schema}.generations as g
    cross join gate as t
    left join {schema}.generations as f on g.generation + 1 = f.generation
    where g.generation >= %(generation)s
),

waiting as (
    select w.*
    from ranges as r
    cross join lateral (
        select r.generation, e.xid, e.position, e.recorded_at
        from {schema}.events as e
        where
            (e.xid, e.position) > (r.from_xid, r.from_position)
            and e.xid < r.unsettled_from and e.position > r.begins and e.position <= r.ends
        order by e.xid, e.position
        limit %(most)s
    ) as w
),

unsettled as (
    select e.position
    from {schema}.events as e
    where
        e.xid >= (select t.xmin from gate as t)
        and e.position > (
            select g.after_position from {schema}.generations as g inner join gate as t on g.generation = t.newest
        )
    order by e.xid, e.position
    limit %(most)s
),

waiting_count as (
    select pg_catalog.count(*) as events from waiting
),

unsettled_count as (
    select pg_catalog.count(*) as events from unsettled
),

oldest as (
    select w.recorded_at
    from waiting as w
    order by w.generation, w.xid, w.position
    limit 1
)

select
    t.is_restored, c.events as waiting, o.recorded_at, u.events as unsettled,
    t.xmin::text::bigint as xmin,
    h.o_pid, h.o_user, h.o_database, h.o_application, h.o_state, h.o_started_at, h.o_query, h.o_prepared_as,
    t.xmin < t.xmax or h.o_state is not null as is_held, {schema}.clock_v1() as read_at
from gate as t
cross join waiting_count as c
cross join unsettled_count as u
left join oldest as o on true
left join lateral {schema}.feed_holder_v1(t.xmin) as h on true;

-- name: read_node_feed
-- The next events after a cursor on one node of a Citus cluster.
select
    f.o_node, f.o_xmin::text::bigint as xmin, f.o_xmax::text::bigint as xmax, f.o_is_standby,
    f.o_low, f.o_high, f.o_is_end, f.o_needs, f.o_is_wanted,
    f.o_seq, f.o_base_seq, f.o_recorded_at, f.o_body, f.o_kind, f.o_checkpoint_id, f.o_checkpoint_ns, f.o_thread_id,
    f.o_position, f.o_digest, f.o_as_of, null::timestamptz as first_at, f.o_xid::text::bigint as xid
from
    {schema}.read_node_feed_v1(
        %(key)s::text, %(begins)s::bigint, %(ends)s::bigint, %(xid)s::bigint::text::xid8, %(position)s::bigint,
        %(lows)s::integer[], %(highs)s::integer[], %(xids)s::text[]::xid8[], %(positions)s::bigint[],
        %(origins)s::bigint[], %(gates)s::text[]::xid8[], %(rows)s::bigint, %(bytes)s::bigint, %(threads)s::text[],
        %(turn)s::bigint
    ) as f;

-- name: feed_nodes
-- A key for each node of a Citus cluster that holds shards (null: the log is not distributed), this node, and the
-- positions around each generation from one on.
select
    {schema}.feed_keys_v1(null) as keys,
    pg_catalog.array_agg(r.begins order by r.generation) as begins,
    pg_catalog.array_agg(r.ends order by r.generation) as ends,
    pg_catalog.max(r.generation) as newest, {schema}.clock_v1() as read_at
from (
    select
        g.generation, g.after_position as begins,
        pg_catalog.lead(g.after_position, 1, 9223372036854775807) over (order by g.generation) as ends
    from {schema}.generations as g
) as r
where r.generation >= %(generation)s::integer;

-- name: end_node_feed
-- The last settled events on one node of a Citus cluster.
select f.o_low, f.o_high, f.o_xid::text::bigint as xid, f.o_position
from {schema}.end_node_feed_v1(%(key)s::text, %(begins)s::bigint) as f;

-- name: measure_node_feed
-- How far a cursor is behind on one node of a Citus cluster.
select
    f.o_waiting, f.o_oldest_at, f.o_unsettled, f.o_xmin::text::bigint as xmin, f.o_pid, f.o_user, f.o_database,
    f.o_application, f.o_state, f.o_started_at, f.o_query, f.o_prepared_as, f.o_is_held
from
    {schema}.measure_node_feed_v1(
        %(key)s::text, %(begins)s::bigint[], %(ends)s::bigint[], %(xid)s::bigint::text::xid8, %(position)s::bigint,
        %(lows)s::integer[], %(highs)s::integer[], %(xids)s::text[]::xid8[], %(positions)s::bigint[], %(most)s::bigint
    ) as f;

-- name: start_generation
-- Starts a new generation of the feed after a restore.
select g.o_generation from {schema}.start_generation_v1() as g;
