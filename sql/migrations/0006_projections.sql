-- Custom projections: how far each has come in the feed. Its row changes in the transaction that changes its view.
-- source is the class that it was set up with; generation, xid and position are the feed's cursor, null before the
-- first event.
create table {schema}.projections (
    name text collate "C" not null,
    version integer not null,
    source text not null,
    generation integer,
    xid xid8,
    position bigint,
    events bigint not null default 0,
    started_at timestamptz not null default clock_timestamp(),
    applied_at timestamptz,
    caught_up_at timestamptz,
    primary key (name)
);
