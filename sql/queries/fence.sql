-- The fence in the database of PostgresSaver: its own tables, in their schema. Functions and triggers: sql/fence.

-- name: find_incumbent
-- The schema of PostgresSaver's tables: the named one, or else the first on the search path that has them. Also the
-- names of the existing tables, the columns of `checkpoints`, and the user.
select
    n.nspname::text as schema_name,
    array(
        select t.relname::text
        from pg_catalog.pg_class as t
        where
            t.relnamespace = n.oid and t.relkind in ('r', 'p')
            and t.relname in ('checkpoints', 'checkpoint_blobs', 'checkpoint_writes', 'checkpoint_migrations')
        order by t.relname
    ) as tables,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attname
    ) as columns
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where
    c.relname = 'checkpoints' and c.relkind in ('r', 'p')
    and (
        n.nspname = %(schema)s::text
        or (%(schema)s::text is null and c.oid = pg_catalog.to_regclass('checkpoints')::oid)
    );

-- name: find_incumbent_version
-- The schema version of PostgresSaver's tables.
select pg_catalog.max(m.v) as version from {schema}.checkpoint_migrations as m;

-- name: incumbent_has
-- Whether a thread has checkpoints or writes in PostgresSaver's tables.
select
    exists (
        select 1 from {schema}.checkpoints as c
        where c.thread_id = %(thread_id)s
    )
    or exists (
        select 1 from {schema}.checkpoint_writes as w
        where w.thread_id = %(thread_id)s
    ) as has_data;

-- name: incumbent_delete_checkpoints
-- Deletes a thread from PostgresSaver's tables, like `PostgresSaver.delete_thread`.
delete from {schema}.checkpoints as c
where c.thread_id = %s;

-- name: incumbent_delete_blobs
-- As above.
delete from {schema}.checkpoint_blobs as b
where b.thread_id = %s;

-- name: incumbent_delete_writes
-- As above.
delete from {schema}.checkpoint_writes as w
where w.thread_id = %s;

-- name: log_database
-- The name of the database.
select pg_catalog.current_database()::text as name;

-- name: fence_table
-- The comment on the fence's table; no row if the table does not exist.
select pg_catalog.obj_description(c.oid, 'pg_class') as comment
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where n.nspname = %s and c.relname = 'moved';

-- name: fence_lock_to_install
-- Locks one of the old tables to create the fence's triggers; waits for transactions that write to it.
lock table {schema}.{table} in share row exclusive mode;

-- name: fence_lock_to_install_now
-- As above, without a wait.
lock table {schema}.{table} in share row exclusive mode nowait;

-- name: fence_lock_to_remove
-- Locks one of the old tables to drop the fence's triggers; waits for transactions that read or write it.
lock table {schema}.{table} in access exclusive mode;

-- name: fence_lock_to_remove_now
-- As above, without a wait.
lock table {schema}.{table} in access exclusive mode nowait;

-- name: fence_lock_writers
-- Locks out the writers of a thread until the transaction ends; false, without waiting, if one is in a transaction.
select pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(%s, 5571870121)) as locked;

-- name: fence_lock_mover
-- Locks out other movers of a thread until the transaction ends; false, without waiting, if one copies the thread.
select pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(%s, 5571870122)) as locked;

-- name: fence_mark
-- Marks a thread as being moved, unless it is marked.
insert into {schema}.moved (thread_id, state, moved_to) values (%s, 'moving', %s) on conflict (thread_id) do nothing;

-- name: fence_state
-- A thread's mark.
select m.state from {schema}.moved as m
where m.thread_id = %s;

-- name: fence_hold
-- A thread's mark, for a mover that holds its lock. A serialization failure if another mover has undone or finished the
-- move since the transaction's snapshot. Deletions can still be noted in the meantime.
select m.state, m.moved_to from {schema}.moved as m
where m.thread_id = %s
for key share of m;

-- name: fence_finish
-- Marks a thread as moved, and returns whether it was deleted in the meantime.
update {schema}.moved as m set state = 'moved', marked_at = pg_catalog.clock_timestamp()
where m.thread_id = %s
returning m.deleted_at is not null as is_deleted;

-- name: fence_undo
-- Removes the mark of a thread that was not moved in the end.
delete from {schema}.moved as m
where m.thread_id = %s and m.state = 'moving';

-- name: fence_release
-- Removes the mark of a thread that moves back to the old tables.
delete from {schema}.moved as m
where m.thread_id = %s;

-- name: fence_forget_deletion
-- Clears the note of deletion, once the log has deleted these threads too.
update {schema}.moved as m set deleted_at = null
where m.thread_id = any(%s) and m.deleted_at is not null;

-- name: fence_counts
-- How many threads have each mark, and how many were then deleted from the old tables.
select
    pg_catalog.count(*) filter (where m.state = 'moving') as moving,
    pg_catalog.count(*) filter (where m.state = 'moved') as moved,
    pg_catalog.count(m.deleted_at) as deleted
from {schema}.moved as m;

-- name: fence_moving
-- A page of the threads that a mover is copying, or was copying when it died.
select m.thread_id from {schema}.moved as m
where m.state = 'moving' and m.thread_id > %(after)s
order by m.thread_id
limit %(rows)s;

-- name: fence_deleted
-- A page of the threads that were deleted from the old tables after they were moved.
select m.thread_id from {schema}.moved as m
where m.deleted_at is not null and m.thread_id > %(after)s
order by m.thread_id
limit %(rows)s;
