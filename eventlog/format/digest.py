"""Digests, format 2: the hashes that protect an event.

The client computes the state digest, which covers the content that readers get, and the content digest. The database
computes the leaf and, under the lock on the stream's row, the digest. `||` joins bytes, integers are big-endian and
signed, intN has N bytes, texts are UTF-8, times are microseconds since 2000-01-01 UTC in an int8.

    chunk            16 KiB of a value's bytes; the last one may be shorter, an empty value has none
    channel digest   sha256(int4 length of type || type || int8 length of bytes || sha256(chunk 1) || sha256(chunk 2) …)

    content          of a checkpoint, msgpack of
                     [parent id or nil, [type, fields], [type, metadata], {channel: version},
                      {node: {channel: version}}, {channel: channel digest}]
                     of writes, msgpack of [task id, task path, [[index, channel, channel digest], …](, actor)]: without
                     an actor it has three items. A checkpoint's actor is in its metadata
    state digest     sha256(salt || content); the salt is 16 random bytes that the body holds. A record has none.
    content digest   sha256(state digest || sha256(body)), of a record sha256(sha256(body))

    leaf             sha256(byte 2 || int2 kind || int4 length of thread id || thread id || int4 length of namespace ||
                            namespace || int4 length of checkpoint id || checkpoint id || int8 base, 0 without one ||
                            content digest)
    digest           sha256(digest of the event before, empty for the first || int8 number || int8 time || leaf)

    relocation       sha256(int8 number || int8 time || int8 time of the original || int8 time of the checkpoint's first
                            event, or of the original || int8 base, 0 without one || sha256(body))

In the content, map keys are sorted by code point, integers, texts and bytes have msgpack's shortest form, floats are
float 64. So equal contents have equal bytes. A value that grows at its end keeps the digests of its chunks:
`channel_digest` takes them from the value before.

An erased event leaves its stub, time and leaf, in the record of the erasure: the chain is computed through it. A
relocated event keeps the number, time and digest of the original, and the two parts of its leaf that the new body no
longer shows: base and body digest. Its state digest is the original's, so its body must have the same content. The
record of the operation has the relocation digest, which covers the new row.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, Final, NamedTuple

import ormsgpack

from eventlog.format.delta import Operation, Serialized, Splice

__all__ = [
    "SALT_BYTES",
    "STUB_BYTES",
    "ChannelDigest",
    "channel_digest",
    "content_digest",
    "event_leaf",
    "instant_of",
    "microseconds",
    "next_digest",
    "relocation_digest",
    "state_digest",
]

#: The version of these definitions, in each leaf.
FORMAT: Final = 2

CHUNK_BYTES: Final = 16 * 1024
SALT_BYTES: Final = 16

#: An erased event's time and leaf.
STUB_BYTES: Final = 40

_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
_int2, _int4, _int8 = struct.Struct(">h").pack, struct.Struct(">i").pack, struct.Struct(">q").pack


class ChannelDigest(NamedTuple):
    """The digest of a channel's value, and those of its chunks."""

    digest: bytes
    chunks: bytes


def channel_digest(value: Serialized, op: Operation | None = None, old: ChannelDigest | None = None) -> ChannelDigest:
    """The digest of a value.

    Args:
        op: the operation that made it from another value. Chunks that a splice kept in place are not hashed again,
            except the first one, which has the header with the count of items.
        old: the other value's digest.
    """
    data, chunks, done = value.data, b"", 0
    if type(op) is Splice and old is not None and len(op.header) == op.offset <= CHUNK_BYTES:
        kept = (op.offset + op.prefix) // CHUNK_BYTES
        if kept > 1:
            chunks, done = sha256(data[:CHUNK_BYTES]).digest() + old.chunks[32 : kept * 32], kept * CHUNK_BYTES
    for start in range(done, len(data), CHUNK_BYTES):
        chunks += sha256(data if len(data) <= CHUNK_BYTES else data[start : start + CHUNK_BYTES]).digest()
    type_ = value.type.encode()
    return ChannelDigest(sha256(_int4(len(type_)) + type_ + _int8(len(data)) + chunks).digest(), chunks)


def state_digest(salt: bytes, content: Sequence[Any]) -> bytes:
    """The digest of the content that readers of an event get."""
    return sha256(salt + ormsgpack.packb(content, option=ormsgpack.OPT_SORT_KEYS)).digest()


def content_digest(state: bytes | None, body_digest: bytes) -> bytes:
    """The digest of a body that the database gets: of its content and of its bytes."""
    return sha256((state or b"") + body_digest).digest()


def event_leaf(kind: int, ids: Sequence[str], base_seq: int | None, content: bytes) -> bytes:
    """An event's identity, independent of the events before it; `ids` are those of thread, namespace and checkpoint."""
    texts = [text.encode() for text in ids]
    return sha256(
        bytes((FORMAT,))
        + _int2(kind)
        + b"".join([_int4(len(text)) + text for text in texts])
        + _int8(base_seq or 0)
        + content
    ).digest()


def next_digest(before: bytes, seq: int, at: bytes, leaf: bytes) -> bytes:
    """The digest of the next event, at a time encoded by `microseconds`."""
    return sha256(before + _int8(seq) + at + leaf).digest()


def relocation_digest(
    seq: int, at: bytes, as_of: bytes, first_at: bytes | None, base: int | None, body: bytes
) -> bytes:
    """The entry in an operation's record for an event that it relocated; `body` is the body's sha256."""
    return sha256(_int8(seq) + at + as_of + (first_at or as_of) + _int8(base or 0) + body).digest()


def microseconds(at: datetime) -> bytes:
    """A time in PostgreSQL's binary format."""
    return _int8((at - _EPOCH) // timedelta(microseconds=1))


def instant_of(microseconds: bytes) -> datetime:
    """The time in PostgreSQL's binary format. Raises OverflowError if it is out of Python's range."""
    return _EPOCH + timedelta(microseconds=int.from_bytes(microseconds, "big", signed=True))
