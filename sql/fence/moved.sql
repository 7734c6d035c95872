-- The threads of the old tables that were moved to an event log, or are being moved.
create table {schema}.moved (
    thread_id text primary key,
    state text not null check (state in ('moving', 'moved')),
    moved_to text not null,
    moved_by text not null default session_user,
    marked_at timestamptz not null default pg_catalog.clock_timestamp(),
    deleted_at timestamptz,
    -- Makes `state` part of a key: then a mover with a transaction from before another one finished cannot lock the row
    -- for key share.
    unique (thread_id, state)
);
comment on table {schema}.moved is 'fence of langgraph-checkpoint-eventlog: threads that were moved to an event log';
comment on column {schema}.moved.state is
'moving: a mover copies the thread, or died while copying it; moved: the log has it';
comment on column {schema}.moved.deleted_at is 'when the thread was deleted from the old tables, after it was marked';
