-- Where `streams`, `checkpoints` and `snapshots` are not what the log says, as far as that can be told without decoding
-- bodies. One statement, so all of it is of one moment. That a range of streams is also one of threads, says twice what
-- is so anyway: of that the planner knows how few they are.
with tips as (
    select
        s.thread_id, s.checkpoint_ns, s.seq, s.epoch, s.latest_checkpoint_id, s.written_through, s.erased_through,
        s.begins_at, s.active_at, s.updated_at
    from {schema}.streams as s
    where
        s.thread_id >= %(thread)s
        and (s.thread_id, s.checkpoint_ns) >= (%(thread)s, %(ns)s)
        and (
            %(end_thread)s::text is null
            or s.thread_id <= %(end_thread)s and (s.thread_id, s.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
),

here as (
    select
        e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.kind, e.checkpoint_id, e.as_of, e.first_at,
        s.begins_at, s.begins_at is not null and e.recorded_at < s.begins_at as is_void
    from {schema}.events as e
    left join tips as s on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns
    where
        e.thread_id >= %(thread)s
        and (e.thread_id, e.checkpoint_ns) >= (%(thread)s, %(ns)s)
        and (
            %(end_thread)s::text is null
            or e.thread_id <= %(end_thread)s and (e.thread_id, e.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
),

saved as (
    select
        h.thread_id, h.checkpoint_ns, h.checkpoint_id, h.seq, h.recorded_at,
        first_value(coalesce(h.first_at, h.recorded_at)) over puts as first_at,
        lag(h.seq) over puts is not null as is_repeat,
        lead(h.seq) over puts is null as is_current
    from here as h
    where h.kind = 1 and not h.is_void
    window puts as (partition by h.thread_id, h.checkpoint_ns, h.checkpoint_id order by h.seq)
),

repeats as (
    select v.thread_id, v.checkpoint_ns, max(v.seq) as seq
    from saved as v
    where v.is_repeat
    group by v.thread_id, v.checkpoint_ns
),

folded as (
    select
        h.thread_id, h.checkpoint_ns,
        max(h.checkpoint_id) filter (where h.kind = 1 and not h.is_void) as latest_checkpoint_id,
        max(h.checkpoint_id) filter (where h.kind = 2 and not h.is_void) as written_through,
        max(coalesce(h.as_of, h.recorded_at)) filter (where h.kind in (1, 2) and not h.is_void) as active_at,
        max(h.recorded_at) filter (where h.as_of is null or h.kind > 2) as updated_at,
        max(h.as_of) filter (where h.kind > 2) as begins_at,
        max(h.seq) filter (where h.kind > 2 and not h.is_void) as record_seq,
        nullif(
            (array_agg(h.checkpoint_id order by h.seq desc) filter (where h.kind > 2 and not h.is_void))[1], ''
        ) as erased_through
    from here as h
    group by h.thread_id, h.checkpoint_ns
),

newest as (
    select v.thread_id, v.checkpoint_ns, v.checkpoint_id, v.seq, v.recorded_at, v.first_at
    from saved as v
    where v.is_current
),

rows as (
    select
        c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.seq, c.recorded_at, c.first_at, c.keyframe_seq, c.keyframe_at
    from {schema}.checkpoints as c
    where
        c.thread_id >= %(thread)s
        and (c.thread_id, c.checkpoint_ns) >= (%(thread)s, %(ns)s)
        and (
            %(end_thread)s::text is null
            or c.thread_id <= %(end_thread)s and (c.thread_id, c.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
),

wrong as (
    select
        s.thread_id, s.checkpoint_ns, s.seq,
        '`streams` disagrees with the log: ' || concat_ws(
            ', ',
            case when s.latest_checkpoint_id is distinct from f.latest_checkpoint_id then 'latest_checkpoint_id' end,
            case when s.written_through is distinct from f.written_through then 'written_through' end,
            case when s.erased_through is distinct from f.erased_through then 'erased_through' end,
            case when s.begins_at is distinct from f.begins_at then 'begins_at' end,
            case when s.active_at is distinct from f.active_at then 'active_at' end,
            case when s.updated_at is distinct from f.updated_at then 'updated_at' end,
            case when s.epoch <> coalesce(greatest(f.record_seq, r.seq), 0) then 'epoch' end
        ) as what
    from tips as s
    left join folded as f on s.thread_id = f.thread_id and s.checkpoint_ns = f.checkpoint_ns
    left join repeats as r on s.thread_id = r.thread_id and s.checkpoint_ns = r.checkpoint_ns
    where
        (
            s.latest_checkpoint_id, s.written_through, s.erased_through, s.begins_at, s.active_at, s.updated_at, s.epoch
        ) is distinct from (
            f.latest_checkpoint_id, f.written_through, f.erased_through, f.begins_at, f.active_at, f.updated_at,
            coalesce(greatest(f.record_seq, r.seq), 0)
        )
    union all
    select
        coalesce(v.thread_id, c.thread_id), coalesce(v.checkpoint_ns, c.checkpoint_ns), coalesce(v.seq, c.seq),
        '`checkpoints` disagrees with the log: ' || case
            when c.seq is null then 'no row'
            when v.seq is null then 'a row without an event'
            else concat_ws(
                ', ',
                case when c.seq <> v.seq then 'seq' end,
                case when c.recorded_at <> v.recorded_at then 'recorded_at' end,
                case when c.first_at <> v.first_at then 'first_at' end
            )
        end
    from newest as v
    full join rows as c
        on v.thread_id = c.thread_id and v.checkpoint_ns = c.checkpoint_ns and v.checkpoint_id = c.checkpoint_id
    where (v.seq, v.recorded_at, v.first_at) is distinct from (c.seq, c.recorded_at, c.first_at)
    union all
    select c.thread_id, c.checkpoint_ns, c.seq, '`checkpoints` disagrees with the log: keyframe'
    from rows as c
    left join saved as v
        on
            c.thread_id = v.thread_id and c.checkpoint_ns = v.checkpoint_ns
            and c.keyframe_seq = v.seq and c.keyframe_at = v.recorded_at
    where v.seq is null or c.keyframe_seq > c.seq
    union all
    select n.thread_id, n.checkpoint_ns, n.seq, '`snapshots` disagrees with the log: a row without an event'
    from {schema}.snapshots as n
    left join saved as v
        on
            n.thread_id = v.thread_id and n.checkpoint_ns = v.checkpoint_ns
            and n.seq = v.seq and n.recorded_at = v.recorded_at
    where
        n.thread_id >= %(thread)s
        and (n.thread_id, n.checkpoint_ns) >= (%(thread)s, %(ns)s)
        and (
            %(end_thread)s::text is null
            or n.thread_id <= %(end_thread)s and (n.thread_id, n.checkpoint_ns) < (%(end_thread)s, %(end_ns)s)
        )
        and v.seq is null
)

select n.thread_id, n.checkpoint_ns, n.seq, n.what, n.rows
from (
    select
        w.*,
        row_number() over (partition by w.thread_id, w.checkpoint_ns order by w.seq, w.what) as number,
        count(*) over (partition by w.thread_id, w.checkpoint_ns) as rows
    from wrong as w
) as n
where n.number <= %(rows)s
order by n.thread_id, n.checkpoint_ns, n.number
