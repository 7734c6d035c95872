-- Retention as a setting, and the threads that it may concern.

-- name: read_retention
-- The log's stored retention.
select s.retention from {schema}.settings as s;

-- name: set_retention
-- Stores the log's retention.
select {schema}.set_retention_v1(%s::jsonb, %s);

-- name: hold_maintenance
-- Makes a worker the one that maintains the log, or releases it.
select {schema}.hold_maintenance_v1(%s, %s) as holder;

-- name: may_seal
-- Whether the user may seal.
select
    pg_catalog.has_function_privilege(p.oid, 'execute') as may,
    session_user::text as username
from pg_catalog.pg_proc as p
where p.pronamespace = '{schema}'::regnamespace::oid and p.proname = 'begin_seal_v1'::name;

-- name: own_retention
-- The newest checkpoint of a thread's root graph that sets a retention for the thread, and that retention.
select c.checkpoint_id, c.metadata -> 'retention'::text as own
from {schema}.checkpoints as c
where
    c.thread_id = %s and c.checkpoint_ns = ''
    and c.metadata -> 'retention'::text is not null
order by c.checkpoint_id desc
limit 1;

-- name: retention_threads
-- A page of threads: when each was last active, its own retention, and whether it has history to erase: a checkpoint
-- with a child that was saved before a time (null: at any time), and that is not among the newest of its namespace.
-- Each join is by thread: on Citus, the page is sent to the nodes.
with page as materialized (
    select s.thread_id, pg_catalog.max(s.active_at) as active_at
    from {schema}.streams as s
    where s.thread_id > %(after)s and (s.latest_checkpoint_id is not null or s.written_through is not null)
    group by s.thread_id
    order by s.thread_id
    limit %(rows)s
)

select
    t.thread_id, t.active_at,
    (
        select (pg_catalog.array_agg(c.metadata -> 'retention'::text order by c.checkpoint_id desc))[1]
        from {schema}.checkpoints as c
        where
            c.thread_id = t.thread_id and c.checkpoint_ns = ''
            and c.metadata -> 'retention'::text is not null
    ) as own,
    %(cuts)s::boolean
    and exists (
        select 1
        from (
            select
                c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.first_at,
                pg_catalog.row_number() over (
                    partition by c.thread_id, c.checkpoint_ns order by c.checkpoint_id desc
                ) as number
            from {schema}.checkpoints as c
            where c.thread_id = t.thread_id
        ) as p
        inner join {schema}.checkpoints as d
            on
                p.thread_id = d.thread_id and p.checkpoint_ns = d.checkpoint_ns
                and p.checkpoint_id = d.parent_checkpoint_id
        where
            d.thread_id = t.thread_id
            and p.number > %(last)s::bigint
            and (%(since)s::timestamptz is null or p.first_at < %(since)s::timestamptz)
    ) as has_history
from (
    select s.thread_id, pg_catalog.max(g.active_at) as active_at
    from page as g
    inner join {schema}.streams as s on g.thread_id = s.thread_id
    group by s.thread_id
) as t
order by t.thread_id;
