create table {schema}.rebuilds (
    id bigint generated always as identity,
    started_at timestamptz not null,
    started_by text not null default session_user,
    settings jsonb not null,
    claim text,
    seen_at timestamptz not null,
    thread_id text collate "C" not null default '',
    checkpoint_ns text collate "C" not null default '',
    is_listed boolean not null default false,
    events bigint not null default 0,
    since xid8 not null,
    dropped text not null,
    finished_at timestamptz,
    keeps_old boolean not null default false,
    primary key (id)
);

create unique index rebuilds_under_way_idx on {schema}.rebuilds ((finished_at is null)) where finished_at is null;

comment on table {schema}.rebuilds is
'Rebuilds of the projections and snapshots: at most one under way, and those before it. Its tables are '
'streams_rebuilt, checkpoints_rebuilt and snapshots_rebuilt.';
comment on column {schema}.rebuilds.id is 'The number of the rebuild.';
comment on column {schema}.rebuilds.started_at is 'When it began.';
comment on column {schema}.rebuilds.started_by is 'The database user.';
comment on column {schema}.rebuilds.settings is
'The settings that its result depends on, and the generation of the log to which the transactions in since belong.';
comment on column {schema}.rebuilds.claim is
'The worker, by a random name. Null: none. It changes only while the row is not locked.';
comment on column {schema}.rebuilds.seen_at is 'When a worker worked on it last.';
comment on column {schema}.rebuilds.thread_id is 'The thread that the first pass has come to.';
comment on column {schema}.rebuilds.checkpoint_ns is 'The namespace that the first pass has come to.';
comment on column {schema}.rebuilds.is_listed is 'Whether the first pass is over.';
comment on column {schema}.rebuilds.events is 'How many events it has read.';
comment on column {schema}.rebuilds.since is 'The appends of all transactions below it are in the derived rows.';
comment on column {schema}.rebuilds.dropped is 'Which partitions had been dropped when it began.';
comment on column {schema}.rebuilds.finished_at is 'When it ended. Null: it is under way.';
comment on column {schema}.rebuilds.keeps_old is 'Whether the tables that it replaced are still there.';

create table {schema}.rebuild_differences (
    rebuild_id bigint not null,
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    streams bigint not null,
    checkpoints bigint not null,
    snapshots bigint not null,
    examples jsonb not null,
    primary key (rebuild_id, thread_id, checkpoint_ns)
);

comment on table {schema}.rebuild_differences is
'Where the projections disagreed with the log: how many rows of each table, by stream, and some of them.';
comment on column {schema}.rebuild_differences.rebuild_id is 'The rebuild that found them.';
comment on column {schema}.rebuild_differences.thread_id is 'The thread.';
comment on column {schema}.rebuild_differences.checkpoint_ns is 'The namespace.';
comment on column {schema}.rebuild_differences.streams is 'How many rows of streams.';
comment on column {schema}.rebuild_differences.checkpoints is 'How many rows of checkpoints.';
comment on column {schema}.rebuild_differences.snapshots is 'How many rows of snapshots.';
comment on column {schema}.rebuild_differences.examples is 'The first of them.';
