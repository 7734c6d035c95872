-- Reading checkpoints and their writes.

-- name: read_checkpoint
-- Everything that one checkpoint consists of.
select o_part, o_seq, o_other_seq, o_at, o_id, o_parent_id, o_body
from {schema}.read_checkpoint_v1(%s, %s, %s, %s::bigint, %s::timestamptz);

-- name: read_checkpoints
-- The same for several checkpoints of one stream.
select o_part, o_seq, o_other_seq, o_at, o_id, o_parent_id, o_body
from {schema}.read_checkpoints_v1(%s, %s, %s);

-- name: read_listed
-- The same for checkpoints of several streams.
select o_stream, o_part, o_seq, o_other_seq, o_at, o_id, o_parent_id, o_body
from {schema}.read_listed_v1(%s, %s, %s, %s);

-- name: read_ancestry
-- A checkpoint and its ancestors, with their writes.
select o_part, o_seq, o_other_seq, o_at, o_id, o_parent_id, o_body
from
    {schema}.read_ancestry_v1(
        %s, %s, %s, %s::integer, %s::bigint, %s::bigint, %s::bigint, %s::bytea, %s::timestamptz, %s::bigint
    );

-- name: read_writes
-- The writes of a checkpoint, oldest first.
select e.seq, e.base_seq, e.recorded_at, e.body
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.checkpoint_id = %s
    and e.kind = 2
    and e.recorded_at >= coalesce(t.begins_at, '-infinity')
order by e.seq;

-- name: read_event
-- A checkpoint event by its number, with its snapshot.
select e.seq, e.base_seq, e.recorded_at, e.body, s.body as snapshot
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
left join {schema}.snapshots as s
    on e.thread_id = s.thread_id and e.checkpoint_ns = s.checkpoint_ns and e.seq = s.seq
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.seq = %s
    and e.kind = 1
    and e.recorded_at >= coalesce(t.begins_at, '-infinity');

-- name: event_saved_at
-- When an event was first appended, however often it was relocated since.
select coalesce(e.as_of, e.recorded_at) as saved_at
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.seq = %s
    and e.kind in (1, 2)
    and e.recorded_at >= coalesce(t.begins_at, '-infinity')
order by e.recorded_at desc
limit 1;

-- name: read_events
-- Events of a stream by their numbers.
select e.seq, e.base_seq, e.recorded_at, e.body
from {schema}.events as e
inner join {schema}.streams as t on e.thread_id = t.thread_id and e.checkpoint_ns = t.checkpoint_ns
where
    e.thread_id = %s
    and e.checkpoint_ns = %s
    and e.seq = any(%s)
    and e.recorded_at >= coalesce(t.begins_at, '-infinity')
order by e.seq;

-- name: list_checkpoints
-- A page of a listing's checkpoints, newest first.
select c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.state_bytes
from {schema}.checkpoints as c
where {where}
order by c.checkpoint_id desc, c.thread_id desc, c.checkpoint_ns desc
limit %(rows)s;

-- name: latest_of_thread
-- The namespaces of a thread with the latest checkpoint of each.
select s.checkpoint_ns, s.latest_checkpoint_id
from {schema}.streams as s
where s.thread_id = %s
order by s.checkpoint_ns;

-- name: find_checkpoints
-- Checkpoints by the beginning of their id.
select c.thread_id, c.checkpoint_ns, c.checkpoint_id
from {schema}.streams as s
cross join
    lateral (
        select c.thread_id, c.checkpoint_ns, c.checkpoint_id
        from {schema}.checkpoints as c
        where
            c.thread_id = s.thread_id
            and c.checkpoint_ns = s.checkpoint_ns
            and c.checkpoint_id >= %(first)s
            and c.checkpoint_id < %(beyond)s
        order by c.checkpoint_id
        limit %(rows)s
    ) as c
where
    s.latest_checkpoint_id >= %(first)s
    and (%(thread_id)s::text is null or s.thread_id = %(thread_id)s)
    and (%(checkpoint_ns)s::text is null or s.checkpoint_ns = %(checkpoint_ns)s)
order by c.thread_id, c.checkpoint_ns, c.checkpoint_id
limit %(rows)s;

-- name: checkpoints_of_step
-- A namespace's checkpoints that have these keys and values (a step) in their metadata, newest first.
select c.checkpoint_id
from {schema}.checkpoints as c
where c.thread_id = %s and c.checkpoint_ns = %s and c.metadata @> %s::jsonb
order by c.checkpoint_id desc;

-- name: ancestors
-- A checkpoint and its ancestors, nearest first.
with recursive path as (
    select c.checkpoint_id, c.parent_checkpoint_id, c.state_bytes, 1 as depth
    from {schema}.checkpoints as c
    where c.thread_id = %(thread_id)s and c.checkpoint_ns = %(checkpoint_ns)s and c.checkpoint_id = %(checkpoint_id)s
    union all
    select c.checkpoint_id, c.parent_checkpoint_id, c.state_bytes, p.depth + 1
    from path as p
    inner join {schema}.checkpoints as c
        on
            c.thread_id = %(thread_id)s
            and c.checkpoint_ns = %(checkpoint_ns)s
            and c.checkpoint_id = p.parent_checkpoint_id
    where p.depth < %(rows)s
)

select checkpoint_id, parent_checkpoint_id, state_bytes from path
order by depth;
