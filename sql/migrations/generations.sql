-- xid is the row's system column xmin. It stays that for as long as the row stays where it was inserted, and no longer
-- is when the row was dumped and restored. So a reader can tell that the log has come from elsewhere.
create table {schema}.generations (
    generation integer not null check (generation >= 0),
    started_at timestamptz not null,
    after_position bigint not null,
    after_xid xid8 not null,
    xid bigint not null,
    primary key (generation)
);

comment on table {schema}.generations is
'Within a generation of the log, transaction ids come from one cluster''s counter and can be compared. A restore into '
'another cluster starts the next one.';
comment on column {schema}.generations.generation is '1, 2, 3, …; 0 marks the log''s own first insert.';
comment on column {schema}.generations.started_at is 'When it started.';
comment on column {schema}.generations.after_position is
'Its events have a greater position, and none above the next generation''s after_position.';
comment on column {schema}.generations.after_xid is 'The greatest transaction id in the generation before.';
comment on column {schema}.generations.xid is 'The row''s xmin when it was inserted: a restored row has another.';

-- Not a generation: a row that another transaction inserted than the first one's. Restored together, the two have the
-- same xmin, even where the first one's happens to be what it was.
insert into {schema}.generations (generation, started_at, after_position, after_xid, xid)
values (0, clock_timestamp(), 0, '0', 0);
