-- Generations of the log: within one, transaction ids come from one cluster's counter and can be compared. The events
-- of a generation are those with a position above its after_position, up to the after_position of the next. after_xid
-- is the greatest transaction id in the one before.
--
-- xid is the row's system column xmin. It stays that for as long as the row stays where it was inserted, and no longer
-- is when the row was dumped and restored. So whoever reads can tell that the log has come from elsewhere.
create table {schema}.generations (
    generation integer not null,
    started_at timestamptz not null,
    after_position bigint not null,
    after_xid xid8 not null,
    xid bigint not null,
    primary key (generation)
);

-- Not a generation: a row that another transaction inserted than the first one's. Restored together, the two have the
-- same xmin, even where the first one's happens to be what it was.
insert into {schema}.generations (generation, started_at, after_position, after_xid, xid)
values (0, clock_timestamp(), 0, '0', 0);
