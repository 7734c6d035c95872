create table {schema}.seals (
    number bigint not null check (number > 0),
    sealed_at timestamptz not null,
    streams bigint not null check (streams >= 0),
    changed bigint not null check (changed >= 0),
    root bytea not null,
    changes bytea not null,
    partitions text not null,
    previous bytea not null,
    digest bytea not null,
    by text not null,
    actor text,
    primary key (number)
);

comment on table {schema}.seals is
'At one moment, a Merkle root over the latest digests of all streams, chained to the seal before. A stream that '
'vanishes whole leaves no gap in any chain; here it does.';
comment on column {schema}.seals.number is '1, 2, 3, …';
comment on column {schema}.seals.sealed_at is 'The moment.';
comment on column {schema}.seals.streams is 'How many streams there were.';
comment on column {schema}.seals.changed is 'How many had changed or ended since the seal before.';
comment on column {schema}.seals.root is 'The root of the Merkle tree over all streams.';
comment on column {schema}.seals.changes is 'The root of the Merkle tree over those that changed or ended.';
comment on column {schema}.seals.partitions is
'The partitions that there are and were, a line for each: name, beginning, end, when made, when '
'dropped or a dash, the sha256 of its archive or a dash.';
comment on column {schema}.seals.previous is 'The digest of the seal before; 32 zero bytes for the first.';
comment on column {schema}.seals.digest is 'Covers the whole row: keep it outside of the database.';
comment on column {schema}.seals.by is 'The database user.';
comment on column {schema}.seals.actor is 'The actor that the caller named, if any.';

create table {schema}.sealed (
    stream bytea not null,
    seal bigint not null,
    seq bigint not null,
    digest bytea not null,
    ended_at timestamptz,
    record bytea,
    primary key (stream, seal)
);

create index sealed_seal_idx on {schema}.sealed (seal, stream);
-- For streams that have lost their names.
create index sealed_digest_idx on {schema}.sealed using hash (digest);

comment on table {schema}.sealed is 'What a seal covers that the one before did not: streams that changed or ended.';
comment on column {schema}.sealed.stream is 'The stream''s name.';
comment on column {schema}.sealed.seal is 'The number of the seal.';
comment on column {schema}.sealed.seq is 'The number of its last event.';
comment on column {schema}.sealed.digest is 'The digest of that event.';
comment on column {schema}.sealed.ended_at is 'When it ended. Null: it had not.';
comment on column {schema}.sealed.record is 'When it ended: the sha256 of what `ended` has of its record. Else null.';

create table {schema}.ended (
    stream bytea not null,
    seq bigint not null,
    digest bytea not null,
    ended_at timestamptz not null,
    partition text collate "C" not null,
    recorded_at timestamptz not null,
    previous bytea not null,
    leaf bytea not null,
    record jsonb not null,
    primary key (stream)
);

comment on table {schema}.ended is
'Streams of which only records were left, which went with their partition: their last number and digest stay, to tell '
'them from a stream that was taken out.';
comment on column {schema}.ended.stream is 'The stream''s name.';
comment on column {schema}.ended.seq is 'The number of its last event.';
comment on column {schema}.ended.digest is 'The digest of that event.';
comment on column {schema}.ended.ended_at is 'When the partition was dropped.';
comment on column {schema}.ended.partition is 'The name of the partition.';
comment on column {schema}.ended.recorded_at is
'When that event was recorded: the record of what left nothing of the stream.';
comment on column {schema}.ended.previous is 'The digest of the event before it.';
comment on column {schema}.ended.leaf is 'Its leaf: with the three columns before, its digest can be computed.';
comment on column {schema}.ended.record is 'What it said, without what could name the thread.';
