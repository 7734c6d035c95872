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
'One row for each seal: a Merkle root over the last digests of all streams, chained to the seal before. A seal proves '
'that no whole stream was removed since.';
comment on column {schema}.seals.number is '1, 2, 3, …';
comment on column {schema}.seals.sealed_at is 'When the log was sealed.';
comment on column {schema}.seals.streams is 'How many streams existed.';
comment on column {schema}.seals.changed is 'How many streams had changed or ended since the seal before.';
comment on column {schema}.seals.root is 'The root of the Merkle tree over all streams.';
comment on column {schema}.seals.changes is 'The root of the Merkle tree over the streams that had changed or ended.';
comment on column {schema}.seals.partitions is
'Existing and dropped partitions, a line for each: name, start, end, created, dropped or a dash, sha256 of the '
'archive or a dash.';
comment on column {schema}.seals.previous is 'The digest of the seal before; 32 zero bytes for the first.';
comment on column {schema}.seals.digest is 'Covers the whole row. Keep a copy outside the database.';
comment on column {schema}.seals.by is 'The database user who sealed the log.';
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
-- For streams that lost their row, and with it their name.
create index sealed_digest_idx on {schema}.sealed using hash (digest);

comment on table {schema}.sealed is 'For each seal, the streams that had changed or ended since the seal before.';
comment on column {schema}.sealed.stream is
'The stream''s name. A thread''s id may be personal data, and must not outlive its erasure.';
comment on column {schema}.sealed.seal is 'The seal''s number.';
comment on column {schema}.sealed.seq is 'The number of the stream''s last event.';
comment on column {schema}.sealed.digest is 'The digest of that event.';
comment on column {schema}.sealed.ended_at is 'When the stream ended. Null: it existed.';
comment on column {schema}.sealed.record is 'Of an ended stream: the sha256 of ended.record as text. Else null.';

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
'Streams that ended: only records were left, and these were dropped with their partition. The last number and digest '
'stay, so that verification can tell an ended stream from a removed one.';
comment on column {schema}.ended.stream is 'The stream''s name.';
comment on column {schema}.ended.seq is 'The number of its last event.';
comment on column {schema}.ended.digest is 'The digest of that event.';
comment on column {schema}.ended.ended_at is 'When the partition was dropped.';
comment on column {schema}.ended.partition is 'The name of that partition.';
comment on column {schema}.ended.recorded_at is
'When the last event was recorded: the record of the operation that emptied the stream.';
comment on column {schema}.ended.previous is
'The digest of the event before: digest is sha256(previous, seq, recorded_at, leaf).';
comment on column {schema}.ended.leaf is
'The leaf of the last event. The record''s salt is not kept, so the thread''s id cannot be guessed from the leaf.';
comment on column {schema}.ended.record is
'The record without what could name the thread: operation, by, actor, before, events, checkpoints, bytes, records, '
'lost.';
