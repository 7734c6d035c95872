create table {schema}.projections (
    name text collate "C" not null,
    version integer not null,
    source text not null,
    generation integer,
    xid xid8,
    position bigint,
    events bigint not null default 0 check (events >= 0),
    started_at timestamptz not null default clock_timestamp(),
    applied_at timestamptz,
    caught_up_at timestamptz,
    tables text[],
    cursor text,
    primary key (name)
);

comment on table {schema}.projections is
'Custom projections and how far each has read the feed. A row changes in the transaction that changes the '
'projection''s view.';
comment on column {schema}.projections.name is 'The projection''s name.';
comment on column {schema}.projections.version is 'The version of the class that made the view.';
comment on column {schema}.projections.source is 'That class, as module:name.';
comment on column {schema}.projections.generation is
'With xid and position, the feed''s cursor. Null: before the first event.';
comment on column {schema}.projections.xid is 'Part of the cursor.';
comment on column {schema}.projections.position is 'Part of the cursor.';
comment on column {schema}.projections.events is 'How many events it has received.';
comment on column {schema}.projections.started_at is 'When it was set up, or when its last rebuild began.';
comment on column {schema}.projections.applied_at is 'When it last received events.';
comment on column {schema}.projections.caught_up_at is
'When it first reached the end of the feed. Null: its view is not complete.';
comment on column {schema}.projections.tables is
'The view''s tables with their schemas, as the class names them: a purge rewrites them. Null: the class names none.';
comment on column {schema}.projections.cursor is
'The cursor on a distributed log. Else null.';

create table {schema}.set_aside (
    projection text collate "C" not null,
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    seq bigint not null,
    generation integer not null,
    xid xid8 not null,
    position bigint not null,
    is_replay boolean not null,
    error text not null,
    set_aside_at timestamptz not null,
    cursor text,
    primary key (projection, thread_id, checkpoint_ns, seq)
);

-- As in `events`: the planner's statistics must not outlive the rows.
alter table {schema}.set_aside alter column thread_id set statistics 0;
alter table {schema}.set_aside alter column error set statistics 0;

comment on table {schema}.set_aside is
'Events that a custom projection could not apply or decode, and has skipped. A row is deleted when the projection '
'applies the event or reads its erasure, and when it is rebuilt or forgotten.';
comment on column {schema}.set_aside.projection is 'The projection''s name.';
comment on column {schema}.set_aside.thread_id is 'The event''s thread.';
comment on column {schema}.set_aside.checkpoint_ns is 'The event''s namespace.';
comment on column {schema}.set_aside.seq is 'The event''s number.';
comment on column {schema}.set_aside.generation is 'With xid and position, the feed''s cursor behind the event.';
comment on column {schema}.set_aside.xid is 'Part of that cursor.';
comment on column {schema}.set_aside.position is
'Part of that cursor. Also the event''s position in the log, unless it was relocated since.';
comment on column {schema}.set_aside.is_replay is
'Whether the event was relocated and the projection had already received the original.';
comment on column {schema}.set_aside.error is
'The last error: its first 1,000 characters. It may quote the event''s content.';
comment on column {schema}.set_aside.set_aside_at is 'When the event last failed.';
comment on column {schema}.set_aside.cursor is
'The cursor on a distributed log. Else null.';
