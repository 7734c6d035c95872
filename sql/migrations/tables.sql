-- The log and what is derived from it. Only `events` is the truth: `streams`, `checkpoints` and `snapshots` can be
-- rebuilt from it. Ids compare by code point (collate "C"), as Python compares them: the greatest id is the latest.

comment on table {schema}.migrations is 'What setup() has applied: migrations, and functions with their version.';
comment on column {schema}.migrations.name is 'The name of the migration or function.';
comment on column {schema}.migrations.checksum is 'sha256 of its text.';
comment on column {schema}.migrations.revision is
'Of a function: the revision of the package''s functions that made it. Null: a migration.';
comment on column {schema}.migrations.applied_at is 'When it was applied last.';
comment on column {schema}.migrations.applied_by is 'The database user.';

-- A domain, not a check constraint of the table, which each statement that writes to the table would parse again. On
-- events, streams and checkpoints such constraints (this one and those of numbers, which no caller chooses) took a
-- seventh of the time of `put`.
create domain {schema}.event_kind as smallint check (value between 1 and 5);

comment on domain {schema}.event_kind is 'What an event is: see `events.kind`.';

create table {schema}.events (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    seq bigint not null,
    recorded_at timestamptz not null,
    position bigint generated always as identity,
    xid xid8 not null default pg_current_xact_id(),
    kind {schema}.event_kind not null,
    checkpoint_id text collate "C" not null,
    base_seq bigint,
    as_of timestamptz,
    first_at timestamptz,
    state_digest bytea,
    origin_base_seq bigint,
    origin_body_digest bytea,
    digest bytea not null,
    body bytea not null,
    primary key (thread_id, checkpoint_ns, seq, recorded_at)
) partition by range (recorded_at);

-- Bodies arrive compressed: a second attempt by the server costs time and saves nothing.
alter table {schema}.events alter column body set storage external;
-- The planner's statistics have sample values, which would outlive the erasure of their rows. Here, and in the tables
-- below, it keeps none of what users say. (Partitions do not inherit this: make_partition_v1.)
alter table {schema}.events alter column body set statistics 0;

create index events_writes_idx on {schema}.events (thread_id, checkpoint_ns, checkpoint_id, seq) where kind = 2;
create index events_tail_idx on {schema}.events (xid, position);

comment on table {schema}.events is
'The log: one row for each put and put_writes, and for each administrative operation. Rows never change.';
comment on column {schema}.events.thread_id is 'The thread.';
comment on column {schema}.events.checkpoint_ns is
'The namespace: empty for the root graph, else the path of a subgraph. Thread and namespace name the stream.';
comment on column {schema}.events.seq is
'1, 2, 3, … within the stream, without gaps: the order in which events are replayed.';
comment on column {schema}.events.recorded_at is
'When it was appended, by the database''s clock. Chooses the partition.';
comment on column {schema}.events.position is 'Unique in the log. Not an order within a stream: that is seq.';
comment on column {schema}.events.xid is
'The greatest transaction id that had appended to the stream by then: of two transactions that append to one stream '
'the second may have taken the smaller id. With position the order of the feed.';
comment on column {schema}.events.kind is
'1 checkpoint saved, 2 writes saved, 3 all erased, 4 erased in part, 5 copied.';
comment on column {schema}.events.checkpoint_id is
'The checkpoint that was saved or that the writes belong to. Of an erasure: the greatest id that was erased so far.';
comment on column {schema}.events.base_seq is
'The base: the body holds differences from the state after this event. Null: the body stands alone.';
comment on column {schema}.events.as_of is
'Of an event that was relocated (appended again under its number, because what it built on was erased): when it was '
'appended first. Of a record: the time before which all events of the stream are void, which retention leaves to the '
'drop of their partition. Else null.';
comment on column {schema}.events.first_at is 'Of a relocated event: when its checkpoint was saved first. Else null.';
comment on column {schema}.events.state_digest is
'sha256 of what readers of the event get, computed by the client with a salt that is in the body. Null: a record.';
comment on column {schema}.events.origin_base_seq is 'Of a relocated event: the base of the original.';
comment on column {schema}.events.origin_body_digest is
'Of a relocated event: the sha256 of the original''s body, which its digest was made of. Else null.';
comment on column {schema}.events.digest is
'sha256 over the digest of the event before and this event: a hash chain. Of a relocated event: the original''s.';
comment on column {schema}.events.body is
'The checkpoint or the writes, encoded by the client; or a record in JSON, written by the database. The first byte is '
'the format.';

-- One call of append_together_v1: of its parameters those that are no bytes, and where the event went.
create type {schema}.append_call as (
    number integer,
    kind smallint,
    thread_id text collate "C",
    checkpoint_ns text collate "C",
    checkpoint_id text collate "C",
    parent_id text,
    root_id text,
    base_seq bigint,
    base_at timestamptz,
    epoch bigint,
    keyframe_seq bigint,
    keyframe_at timestamptz,
    head_seq bigint,
    is_keyframe boolean,
    state_bytes bigint,
    run_id text,
    metadata text,
    seq bigint,
    at timestamptz,
    digest bytea
);

comment on type {schema}.append_call is 'One call of append_together_v1, and the event that it became.';

-- Nothing that changes is indexed and half of each page is free, so that the updates stay within their page (HOT) and
-- leave the indexes alone. The order of the columns is for these updates too: WAL holds of a changed row what lies
-- between the first and the last byte that differ. What seldom changes is before them, what only writes change comes
-- first, what only checkpoints change comes last.
create table {schema}.streams (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    name bytea not null,
    epoch bigint not null default 0,
    erased_through text collate "C",
    begins_at timestamptz,
    written_through text collate "C",
    seq bigint not null,
    xid xid8 not null,
    active_at timestamptz,
    updated_at timestamptz not null,
    digest bytea not null,
    latest_checkpoint_id text collate "C",
    primary key (thread_id, checkpoint_ns)
) with (fillfactor = 50);

comment on table {schema}.streams is
'One row for each stream, updated by every append: it hands out the numbers and knows the latest checkpoint.';
comment on column {schema}.streams.thread_id is 'The thread.';
comment on column {schema}.streams.checkpoint_ns is 'The namespace.';
comment on column {schema}.streams.name is
'A random name, for seals and receipts: an id may be personal, and must not outlive its erasure.';
comment on column {schema}.streams.epoch is
'Raised by what replaces or erases what another may build on, to that event''s number at least, and by a rebuild that '
'changes the stream: a writer that knew another one looks again.';
comment on column {schema}.streams.erased_through is 'The greatest checkpoint id that was erased. Null: none.';
comment on column {schema}.streams.begins_at is 'The time before which all events are void. Null: none are.';
comment on column {schema}.streams.written_through is
'The greatest checkpoint id that has writes: a reader of a later one need not look for them in the log.';
comment on column {schema}.streams.seq is 'The number of the last event.';
comment on column {schema}.streams.xid is 'The xid of the last event.';
comment on column {schema}.streams.active_at is
'When a saver appended last. Null: nothing is left of what savers appended.';
comment on column {schema}.streams.updated_at is 'When the last event of any kind was appended.';
comment on column {schema}.streams.digest is 'The digest of the last event.';
comment on column {schema}.streams.latest_checkpoint_id is 'The greatest checkpoint id. Null: there is no checkpoint.';

-- Rows are inserted and deleted, here and in snapshots, and change only where something is erased: vacuum freezes them
-- at once.
create table {schema}.checkpoints (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    checkpoint_id text collate "C" not null,
    seq bigint not null,
    recorded_at timestamptz not null,
    first_at timestamptz not null,
    parent_checkpoint_id text collate "C",
    keyframe_seq bigint not null,
    keyframe_at timestamptz not null,
    state_bytes bigint not null,
    run_id text,
    metadata jsonb not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id)
) with (autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0);

alter table {schema}.checkpoints alter column run_id set statistics 0, alter column metadata set statistics 0;

-- A hash: the id comes from the user's metadata, and may be longer than what a b-tree can hold.
create index checkpoints_run_idx on {schema}.checkpoints using hash (run_id) where run_id is not null;

comment on table {schema}.checkpoints is 'Which checkpoints there are, and where reading one starts.';
comment on column {schema}.checkpoints.thread_id is 'The thread.';
comment on column {schema}.checkpoints.checkpoint_ns is 'The namespace.';
comment on column {schema}.checkpoints.checkpoint_id is 'LangGraph''s id: a greater one is later.';
comment on column {schema}.checkpoints.seq is 'The event that saved it last.';
comment on column {schema}.checkpoints.recorded_at is 'When that event was recorded.';
comment on column {schema}.checkpoints.first_at is
'When the checkpoint was saved first: it may be saved again, and its writes be older than that.';
comment on column {schema}.checkpoints.parent_checkpoint_id is
'The parent. Null: it has none, or the parent was erased.';
comment on column {schema}.checkpoints.keyframe_seq is
'The event from which reading replays: it stands alone, or `snapshots` has its state.';
comment on column {schema}.checkpoints.keyframe_at is 'When that event was recorded.';
comment on column {schema}.checkpoints.state_bytes is 'The size of the state, serialized.';
comment on column {schema}.checkpoints.run_id is 'run_id of the metadata, for delete_for_runs.';
comment on column {schema}.checkpoints.metadata is
'A copy of the metadata to filter by, without what jsonb cannot hold. Readers get the original, from the log.';

create table {schema}.snapshots (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    seq bigint not null,
    recorded_at timestamptz not null,
    body bytea not null,
    primary key (thread_id, checkpoint_ns, seq)
) with (autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0);

alter table {schema}.snapshots alter column body set storage external, alter column body set statistics 0;

comment on table {schema}.snapshots is
'The whole state at some checkpoint events, so that readers replay little. Without a row they replay more.';
comment on column {schema}.snapshots.thread_id is 'The thread.';
comment on column {schema}.snapshots.checkpoint_ns is 'The namespace.';
comment on column {schema}.snapshots.seq is 'The event.';
comment on column {schema}.snapshots.recorded_at is 'When the event was recorded.';
comment on column {schema}.snapshots.body is 'The state, encoded as the body of an event.';

create table {schema}.settings (
    is_only boolean not null default true check (is_only),
    log_id bytea not null check (pg_catalog.octet_length(log_id) = 16),
    partition_interval text not null check (partition_interval in ('day', 'week', 'month')),
    partitions_ahead integer not null check (partitions_ahead between 0 and 1000),
    primary key (is_only)
);

insert into {schema}.settings (log_id, partition_interval, partitions_ahead)
values (pg_catalog.uuid_send(pg_catalog.gen_random_uuid()), 'month', 3);

comment on table {schema}.settings is 'What goes for the whole log: one row, which setup() writes.';
comment on column {schema}.settings.is_only is 'True: there is no second row.';
comment on column {schema}.settings.log_id is 'A random name of the log.';
comment on column {schema}.settings.partition_interval is 'How much time one partition holds, in UTC.';
comment on column {schema}.settings.partitions_ahead is 'How many partitions there are to be beyond the current one.';

create table {schema}.grants (
    role_name text collate "C" not null,
    rights text collate "C" not null check (
        rights in ('writer', 'eraser', 'sealer', 'auditor', 'projector', 'importer')
    ),
    granted_at timestamptz not null default clock_timestamp(),
    granted_by text not null default session_user,
    primary key (role_name, rights)
);

comment on table {schema}.grants is
'Which roles were granted which sets of rights: setup() grants them what a new version adds to the set.';
comment on column {schema}.grants.role_name is 'The role.';
comment on column {schema}.grants.rights is 'The set.';
comment on column {schema}.grants.granted_at is 'When it was granted first.';
comment on column {schema}.grants.granted_by is 'The database user who granted it.';

create table {schema}.locks (
    name text collate "C" not null,
    primary key (name)
);

insert into {schema}.locks (name) values ('seal'), ('projection');

comment on table {schema}.locks is
'Rows to lock: unlike with an advisory lock, only a user with the right to it can keep others waiting.';
comment on column {schema}.locks.name is
'What is locked: `seal`, sealing the log; `projection`, beginning a custom projection.';

create table {schema}.partitions (
    name text collate "C" not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null check (ends_at > starts_at),
    made_at timestamptz not null,
    dropped_at timestamptz,
    dropped_by text,
    dropped_rows bigint,
    dropped_bytes bigint,
    actor text,
    archive bytea,
    primary key (name)
);

comment on table {schema}.partitions is
'Which partitions of `events` there are, and which there were. Its lock serializes their creation.';
comment on column {schema}.partitions.name is 'The name of the table.';
comment on column {schema}.partitions.starts_at is 'The first recorded_at that goes into it.';
comment on column {schema}.partitions.ends_at is 'The first recorded_at after it.';
comment on column {schema}.partitions.made_at is 'When it was made.';
comment on column {schema}.partitions.dropped_at is 'When it was dropped. Null: it is there.';
comment on column {schema}.partitions.dropped_by is 'The database user who dropped it.';
comment on column {schema}.partitions.dropped_rows is 'How many events it had then.';
comment on column {schema}.partitions.dropped_bytes is 'How large it was then, with indexes.';
comment on column {schema}.partitions.actor is 'The actor that the caller named, if any.';
comment on column {schema}.partitions.archive is
'sha256 of the file that its events were written to before it was dropped. Null: none was.';
