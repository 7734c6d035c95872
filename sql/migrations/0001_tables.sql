-- The log and what is derived from it. Only `events` is the truth: `streams`, `checkpoints` and `snapshots` can be
-- rebuilt from it. Ids compare by code point (collate "C"), as Python compares them: the greatest id is the latest.

-- as_of is null for what savers append. An event that was carried forward (appended again under its number, because
-- what it built on went) has the time when it was appended first, and in first_at when its checkpoint was saved
-- first. A record of an operation has the time before which everything that the stream recorded is void: retention
-- leaves such events to lie until their partition is dropped. xid is the greatest transaction id that appended to the
-- stream so far: of two transactions that append to one stream the second may have taken the smaller id.
create table {schema}.events (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    seq bigint not null,
    recorded_at timestamptz not null,
    position bigint generated always as identity,
    xid xid8 not null default pg_current_xact_id(),
    kind smallint not null,
    checkpoint_id text collate "C" not null,
    base_seq bigint,
    as_of timestamptz,
    first_at timestamptz,
    digest bytea not null,
    body bytea not null,
    primary key (thread_id, checkpoint_ns, seq, recorded_at)
) partition by range (recorded_at);

-- Bodies arrive compressed: a second attempt by the server costs time and saves nothing.
alter table {schema}.events alter column body set storage external;

create index events_writes_idx on {schema}.events (thread_id, checkpoint_ns, checkpoint_id, seq) where kind = 2;
create index events_tail_idx on {schema}.events (xid, position);

-- One row per stream, updated by every append. written_through is the greatest checkpoint id that has writes: the
-- latest checkpoint of a finished run has none, and its reader learns that without a look into the log. active_at
-- is the last time of what savers appended, updated_at of any event. begins_at is the greatest as_of of the
-- stream's erasures, xid that of its last event. Nothing that changes is indexed and half of each page is free, so
-- that the updates stay within their page (HOT) and leave the indexes alone. The order of the columns is for these
-- updates too: WAL holds of a changed row what lies between the first and the last byte that differ. What seldom
-- changes is before them, what only writes change comes first, what only checkpoints change comes last.
create table {schema}.streams (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
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

-- first_at is when the checkpoint was first saved: it may be saved again, and its writes be older than that. Rows are
-- inserted and deleted, here and in snapshots, and change only where something is erased: vacuum freezes them at once.
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

-- A hash: the id comes from the user's metadata, and may be longer than what a b-tree can hold.
create index checkpoints_run_idx on {schema}.checkpoints using hash (run_id) where run_id is not null;

create table {schema}.snapshots (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    seq bigint not null,
    recorded_at timestamptz not null,
    body bytea not null,
    primary key (thread_id, checkpoint_ns, seq)
) with (autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0);

alter table {schema}.snapshots alter column body set storage external;

-- Which partitions of `events` there are, and which there were. Its lock serializes their creation.
create table {schema}.partitions (
    name text collate "C" not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    dropped_at timestamptz,
    dropped_by text,
    dropped_rows bigint,
    dropped_bytes bigint,
    actor text,
    primary key (name)
);
