-- The log and the tables derived from it. Only `events` is the source of truth: `streams`, `checkpoints` and
-- `snapshots` can be rebuilt from it. Ids compare by code point (collate "C"), as in Python: the greatest id is the
-- latest.

comment on table {schema}.migrations is 'The migrations and functions that setup() has applied.';
comment on column {schema}.migrations.name is 'The migration, or the function with its version.';
comment on column {schema}.migrations.checksum is 'sha256 of its text, in hex.';
comment on column {schema}.migrations.revision is
'Of a function: the revision of the package''s functions that created it. Null: a migration.';
comment on column {schema}.migrations.applied_at is 'When it was last applied.';
comment on column {schema}.migrations.applied_by is 'The database user who applied it.';

-- A domain, not a check constraint, which every statement that writes to the table would parse again: such constraints
-- on events, streams and checkpoints (this one, and ones on numbers that no caller chooses) took a seventh of the time
-- of `put`.
create domain {schema}.event_kind as smallint check (value between 1 and 6);

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

-- Bodies arrive compressed: compressing them again would cost time and save nothing.
alter table {schema}.events alter column body set storage external;
-- The planner's statistics hold sample values, which would outlive the erasure of their rows. So here and in the tables
-- below they exclude columns with user content. (Partitions do not inherit this: make_partition_v1.)
alter table {schema}.events alter column body set statistics 0;

create index events_writes_idx on {schema}.events (thread_id, checkpoint_ns, checkpoint_id, seq) where kind = 2;
create index events_tail_idx on {schema}.events (xid, position);

comment on table {schema}.events is
'The log: one row for each put, each put_writes and each administrative operation. Rows never change.';
comment on column {schema}.events.thread_id is 'The thread''s id.';
comment on column {schema}.events.checkpoint_ns is
'The namespace: empty for the root graph, else the subgraph''s path. Thread and namespace name the stream.';
comment on column {schema}.events.seq is
'The event''s number in its stream: 1, 2, 3, … Gaps are erased events. Replay follows this order.';
comment on column {schema}.events.recorded_at is
'When the event was appended, by the database''s clock. It chooses the partition. Within a stream it never decreases, '
'except for relocated events.';
comment on column {schema}.events.position is
'Unique in the log. It has gaps, and it is not the order within a stream: that is seq.';
comment on column {schema}.events.xid is
'The greatest transaction id that has appended to the stream so far. With position, the order of the feed.';
comment on column {schema}.events.kind is
'1 checkpoint saved, 2 writes saved. Records: 3 all erased (a tombstone), 4 part erased, 5 copied from another '
'thread, 6 imported.';
comment on column {schema}.events.checkpoint_id is
'The checkpoint that was saved or written to. In a record: the greatest erased id of the stream, empty when none was '
'erased.';
comment on column {schema}.events.base_seq is
'The base event: the body holds differences from the state after it. Null: the body is self-contained.';
comment on column {schema}.events.as_of is
'In a relocated event: when the original was appended. In a record: the stream''s events from before this time are '
'void. Else null.';
comment on column {schema}.events.first_at is
'In a relocated checkpoint event: when the checkpoint was first saved. Else null.';
comment on column {schema}.events.state_digest is
'Salted sha256 of the checkpoint or writes as readers get them, computed by the client. Null in records.';
comment on column {schema}.events.origin_base_seq is 'In a relocated event: the original''s base_seq. Else null.';
comment on column {schema}.events.origin_body_digest is
'In a relocated event: the sha256 of the original''s body. Else null.';
comment on column {schema}.events.digest is
'The stream''s hash chain: sha256 over the digest of the event before and this event. A relocated event keeps the '
'original''s digest.';
comment on column {schema}.events.body is
'The encoded checkpoint or writes, or a record''s JSON and stubs. The first byte names the format.';

-- One call of append_together_v1: its parameters except byte strings, and the event that it became.
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
    is_keyframe boolean,
    state_bytes bigint,
    run_id text,
    metadata text,
    seq bigint,
    at timestamptz,
    digest bytea
);

comment on type {schema}.append_call is 'One call of append_together_v1, and the event that it became.';

-- No changing column is indexed and half of each page is free, so that updates stay within their page (HOT) and touch
-- no index. The order of the columns also serves these updates: WAL holds the part of a changed row between the first
-- and the last byte that differ. So columns that seldom change come first, then what only writes change, and last what
-- only checkpoints change.
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
'One row for each stream, updated by every append: it hands out the numbers and names the latest checkpoint.';
comment on column {schema}.streams.thread_id is 'The thread''s id.';
comment on column {schema}.streams.checkpoint_ns is 'The namespace.';
comment on column {schema}.streams.name is
'16 random bytes that seals, receipts and proofs use as the stream''s name: a thread''s id may be personal data.';
comment on column {schema}.streams.epoch is
'At least the number of the last event that replaced a checkpoint or recorded an operation; 0: none. A rebuild that '
'changes the stream raises it.';
comment on column {schema}.streams.erased_through is 'The greatest erased checkpoint id. Null: none was erased.';
comment on column {schema}.streams.begins_at is
'Events recorded before this time are void: the greatest as_of of the stream''s records. Null: retention has never '
'cut the stream.';
comment on column {schema}.streams.written_through is
'The greatest checkpoint id that has writes. Readers of a later checkpoint skip the search for writes. Null: no '
'checkpoint has any.';
comment on column {schema}.streams.seq is 'The number of the last event.';
comment on column {schema}.streams.xid is 'The xid of the last event.';
comment on column {schema}.streams.active_at is
'When a saver last appended, or a copy was made into it. Relocation does not count. Null: everything was erased.';
comment on column {schema}.streams.updated_at is 'When the last event of any kind was appended.';
comment on column {schema}.streams.digest is 'The digest of the last event.';
comment on column {schema}.streams.latest_checkpoint_id is
'The greatest checkpoint id. Null: the stream has no checkpoint.';

-- Here and in snapshots, rows are inserted and deleted, and updated only by erasures: vacuum may freeze them at once.
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

-- A hash index: the id comes from the user's metadata, and may be longer than a b-tree entry.
create index checkpoints_run_idx on {schema}.checkpoints using hash (run_id) where run_id is not null;

comment on table {schema}.checkpoints is
'The checkpoints that exist, and the event from which reading each one starts.';
comment on column {schema}.checkpoints.thread_id is 'The thread''s id.';
comment on column {schema}.checkpoints.checkpoint_ns is 'The namespace.';
comment on column {schema}.checkpoints.checkpoint_id is 'LangGraph''s id: a greater one is later.';
comment on column {schema}.checkpoints.seq is 'The event that saved it. After a repeated put: the last one.';
comment on column {schema}.checkpoints.recorded_at is 'When that event was recorded.';
comment on column {schema}.checkpoints.first_at is
'When the checkpoint was first saved, or copied to this thread. Its writes may be slightly older.';
comment on column {schema}.checkpoints.parent_checkpoint_id is
'The parent''s id. Null: it has no parent, or the parent was erased.';
comment on column {schema}.checkpoints.keyframe_seq is
'The event from which reading replays: a self-contained one, or one with a row in snapshots.';
comment on column {schema}.checkpoints.keyframe_at is
'When that event was recorded. Later than recorded_at if the keyframe was relocated and the checkpoint was not.';
comment on column {schema}.checkpoints.state_bytes is
'Size of the state''s values in bytes: serialized, not compressed.';
comment on column {schema}.checkpoints.run_id is
'run_id of the metadata, for delete_for_runs. Null: the metadata has none.';
comment on column {schema}.checkpoints.metadata is
'A copy for filters: NUL and lone surrogates are replaced, NaN and infinities are null. Savers return the original '
'from the log.';

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
'The full state at some checkpoint events, so that readers replay little. Deleting rows affects only the speed of '
'reads.';
comment on column {schema}.snapshots.thread_id is 'The thread''s id.';
comment on column {schema}.snapshots.checkpoint_ns is 'The namespace.';
comment on column {schema}.snapshots.seq is 'The checkpoint event.';
comment on column {schema}.snapshots.recorded_at is 'When that event was recorded.';
comment on column {schema}.snapshots.body is 'The state, encoded like an event''s body.';

create table {schema}.settings (
    is_only boolean not null default true check (is_only),
    log_id bytea not null check (pg_catalog.octet_length(log_id) = 16),
    partition_interval text not null check (partition_interval in ('day', 'week', 'month')),
    partitions_ahead integer not null check (partitions_ahead between 0 and 1000),
    retention jsonb,
    retention_set_at timestamptz,
    retention_set_by text,
    retention_actor text,
    primary key (is_only)
);

insert into {schema}.settings (log_id, partition_interval, partitions_ahead)
values (pg_catalog.uuid_send(pg_catalog.gen_random_uuid()), 'month', 3);

comment on table {schema}.settings is
'Settings of the whole log, in one row. setup() writes it; set_retention() writes the retention.';
comment on column {schema}.settings.is_only is 'Always true: it limits the table to one row.';
comment on column {schema}.settings.log_id is '16 random bytes that identify the log.';
comment on column {schema}.settings.partition_interval is
'How much time one partition holds, in UTC: day, week or month.';
comment on column {schema}.settings.partitions_ahead is 'How many partitions to keep ready after the current one.';
comment on column {schema}.settings.retention is
'The retention, with durations in ISO 8601. Null: maintain() erases nothing.';
comment on column {schema}.settings.retention_set_at is 'When the retention was last set or cleared. Null: never.';
comment on column {schema}.settings.retention_set_by is 'The database user who set or cleared it.';
comment on column {schema}.settings.retention_actor is 'The actor that the caller named, if any.';

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
'Which roles were granted which sets of rights. setup() grants them what a new version adds to a set.';
comment on column {schema}.grants.role_name is 'The role.';
comment on column {schema}.grants.rights is 'The set: writer, eraser, sealer, auditor, projector or importer.';
comment on column {schema}.grants.granted_at is 'When the set was first granted to the role.';
comment on column {schema}.grants.granted_by is 'The database user who granted it.';

create table {schema}.locks (
    name text collate "C" not null,
    held_by text,
    held_until timestamptz,
    primary key (name)
);

insert into {schema}.locks (name) values ('seal'), ('projection'), ('maintain');

comment on table {schema}.locks is
'Rows to lock. Every user may take an advisory lock, but only a user with the right to it can lock a row here.';
comment on column {schema}.locks.name is
'seal: sealing the log. projection: starting a custom projection. maintain: maintenance.';
comment on column {schema}.locks.held_by is
'Of maintain: the worker that maintains the log, as host, process and a random number. Null: none.';
comment on column {schema}.locks.held_until is
'Of maintain: when another worker may take over, at most ten minutes ahead. A later time comes from a wrong clock and '
'is ignored.';

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
'The partitions of events, including dropped ones. The table''s lock serializes their creation.';
comment on column {schema}.partitions.name is 'The partition''s table.';
comment on column {schema}.partitions.starts_at is 'The first recorded_at that it takes.';
comment on column {schema}.partitions.ends_at is 'The first recorded_at after it.';
comment on column {schema}.partitions.made_at is 'When it was created.';
comment on column {schema}.partitions.dropped_at is 'When retention dropped it. Null: it exists.';
comment on column {schema}.partitions.dropped_by is 'The database user who dropped it.';
comment on column {schema}.partitions.dropped_rows is 'How many events it held when it was dropped.';
comment on column {schema}.partitions.dropped_bytes is 'Its size on disk then, in bytes, with indexes.';
comment on column {schema}.partitions.actor is 'The actor that the caller named for the drop, if any.';
comment on column {schema}.partitions.archive is
'sha256 of the file to which its events were archived. Null: they were not.';
