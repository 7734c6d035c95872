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
    primary key (name)
);

comment on table {schema}.projections is
'Custom projections: how far each has come in the feed. Its row changes in the transaction that changes its view.';
comment on column {schema}.projections.name is 'The name.';
comment on column {schema}.projections.version is 'The version of the class that it was set up with.';
comment on column {schema}.projections.source is 'The class that it was set up with.';
comment on column {schema}.projections.generation is 'Of the feed''s cursor. Null: before the first event.';
comment on column {schema}.projections.xid is 'Of the feed''s cursor.';
comment on column {schema}.projections.position is 'Of the feed''s cursor.';
comment on column {schema}.projections.events is 'How many events it has received.';
comment on column {schema}.projections.started_at is 'When it began at the first event.';
comment on column {schema}.projections.applied_at is 'When it received events last.';
comment on column {schema}.projections.caught_up_at is 'When it first came to the end of the feed.';
