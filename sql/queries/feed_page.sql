-- The next events of a generation after a cursor, with what there is to know of the generation; without events one
-- row that has none. Settled are the events whose transaction id is below all that are still running, in the snapshot
-- that the rows are read with, and all of a generation that is followed by another.
with generation as materialized (
    select
        n.o_generation as newest,
        n.o_is_restored as is_restored,
        f.after_position as last_position,
        f.after_xid::text::bigint as last_xid,
        g.after_position as begins,
        g.generation is not null as is_known,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint as xmax,
        pg_is_in_recovery() as is_replica,
        coalesce(f.after_position, 9223372036854775807) as ends,
        case
            when f.generation is null then pg_snapshot_xmin(pg_current_snapshot()) else '18446744073709551615'::xid8
        end as unsettled_from
    from {schema}.newest_generation_v1() as n
    left join {schema}.generations as g on g.generation = %(generation)s
    left join {schema}.generations as f on f.generation = %(generation)s + 1
),

page as (
    select e.*
    from {schema}.events as e
    where
        (e.xid, e.position) > (%(xid)s::bigint::text::xid8, %(position)s::bigint)
        and e.xid < (select g.unsettled_from from generation as g)
        and e.position > (select g.begins from generation as g)
        and e.position <= (select g.ends from generation as g)
    order by e.xid, e.position
    limit %(rows)s
),

chosen as (
    select
        p.*,
        (%(threads)s::text[] is null or p.thread_id = any(%(threads)s))
        and (s.begins_at is null or p.recorded_at >= s.begins_at) as is_wanted
    from page as p
    left join {schema}.streams as s on p.thread_id = s.thread_id and p.checkpoint_ns = s.checkpoint_ns
),

weighed as (
    select
        c.*,
        count(*) over () as found,
        sum(octet_length(c.body)) filter (where c.is_wanted) over (
            order by c.xid, c.position rows between unbounded preceding and 1 preceding
        ) as bytes_before
    from chosen as c
)

select
    g.newest, g.is_restored, g.is_known, g.last_position, g.last_xid, g.xmax, g.is_replica,
    w.found, w.is_wanted, w.xid::text::bigint as xid, w.position, w.thread_id, w.checkpoint_ns, w.seq, w.recorded_at,
    w.kind, w.checkpoint_id, w.base_seq, w.as_of, w.digest, case when w.is_wanted then w.body end as body
from generation as g
left join weighed as w on coalesce(w.bytes_before, 0) < %(bytes)s
