-- Rebuilds of the projections and snapshots: the one under way, and those before it. At most one is under way, and
-- its tables are streams_rebuilt, checkpoints_rebuilt and snapshots_rebuilt.
--
-- settings is what the result depends on, and the generation of the log whose transactions since counts. claim names
-- who works on it (null: nobody), and changes hands only while the row is not locked. thread_id and checkpoint_ns are
-- how far the first pass has come, is_listed that it is over. Every transaction below since that appended is in what
-- was derived. dropped says which partitions were gone then.
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

-- Where the projections were not what the log says: how many rows of each table, by stream, and some of them.
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
