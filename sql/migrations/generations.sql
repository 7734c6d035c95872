-- xid holds the row's system column xmin. The two are equal as long as the row stays where it was inserted, and differ
-- after a dump and restore. So a reader can tell that the log was restored elsewhere.
create table {schema}.generations (
    generation integer not null check (generation >= 0),
    started_at timestamptz not null,
    after_position bigint not null,
    after_xid xid8 not null,
    xid bigint not null,
    primary key (generation)
);

comment on table {schema}.generations is
'Generations of the log. A restore into another cluster starts one: transaction ids can be compared only within a '
'generation.';
comment on column {schema}.generations.generation is
'1, 2, 3, … The row with 0 is not a generation: a restore is recognised by it.';
comment on column {schema}.generations.started_at is 'When the restore was noticed and the generation started.';
comment on column {schema}.generations.after_position is
'The generation''s events have a greater position, up to the next generation''s after_position.';
comment on column {schema}.generations.after_xid is 'The greatest xid of the generation before.';
comment on column {schema}.generations.xid is
'The row''s system column xmin when it was inserted. A restored row has another xmin.';

-- Not a generation, but a row inserted by another transaction than the first generation's. If both are restored
-- together, they have the same xmin, even if the first one's happens to match its xid.
insert into {schema}.generations (generation, started_at, after_position, after_xid, xid)
values (0, clock_timestamp(), 0, '0', 0);
