-- Seals: at one moment, a Merkle root over the latest digests of all streams, chained to the seal before. A stream that
-- vanishes whole leaves no gap in any chain; here it does.

create table {schema}.seals (
    number bigint not null,
    sealed_at timestamptz not null,
    streams bigint not null,
    changed bigint not null,
    root bytea not null,
    changes bytea not null,
    previous bytea not null,
    digest bytea not null,
    by text not null,
    actor text,
    primary key (number)
);

-- What a seal covers that the one before did not: the streams that changed (is_live), and those that ended. A stream is
-- named by a hash of its ids: an id may be personal, and is not to outlive its erasure.
create table {schema}.sealed (
    stream bytea not null,
    seal bigint not null,
    is_live boolean not null,
    seq bigint not null,
    digest bytea not null,
    ended_at timestamptz,
    primary key (stream, seal, is_live)
);

create index sealed_seal_idx on {schema}.sealed (seal, stream, is_live);

-- Streams that are no more: nothing but records was left of them, and went with its partition. Their last number and
-- digest stay, to tell that from a stream that somebody took out.
create table {schema}.ended (
    stream bytea not null,
    seq bigint not null,
    digest bytea not null,
    ended_at timestamptz not null,
    partition text collate "C" not null,
    primary key (stream, ended_at)
);
