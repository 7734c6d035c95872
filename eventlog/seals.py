"""Seals: at one moment, a Merkle root over the latest digests of all streams, chained to the seal before.

A stream's chain of digests reveals changes to the stream, but not that the whole stream was removed. A seal lists the
streams and their last events. Its digest is a line of text that can be kept where no user who may change the database
can change it.

A seal reads all streams in one statement, so it covers the events committed at one moment. It is stored as the
difference from the seal before. Streams are read page by page: a million of them never fill the memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import SealNotFoundError, ThreadNotFoundError
from eventlog.format.digest import microseconds
from eventlog.format.merkle import AuditPath, Tree, leaf_hash, root_by_path
from eventlog.streams import Stream

__all__ = [
    "NO_DIGEST",
    "Proof",
    "Seal",
    "SignedSeal",
    "digest_of",
    "prove",
    "read_changes",
    "read_root",
    "read_seals",
    "take_seal",
    "verify_proof",
]

#: Streams in memory at a time.
PAGE = 5_000

#: The first bytes under a seal's digest: no other digest of the log begins so.
_PREFIX = b"eventlog seal 1\n"

#: Stands in for a missing digest.
NO_DIGEST = bytes(32)


class Seal(NamedTuple):
    """A seal of the log: the root of a Merkle tree over all streams."""

    # In the order of the statement's columns.
    number: int
    """1, 2, 3, …"""
    sealed_at: datetime
    """The time of the seal."""
    streams: int
    """Streams of the log."""
    changed: int
    """Streams that changed or ended since the previous seal."""
    root: bytes
    """The root of the Merkle tree over all streams."""
    changes: bytes
    """The root of the Merkle tree over the changed and ended streams."""
    partitions: str
    """A line for each partition: name, beginning, end, time made, time dropped or a dash, sha256 of its archive or a
    dash. Times are in hex."""
    previous: bytes
    """The digest of the previous seal; 32 zero bytes for the first."""
    digest: bytes
    """The digest over all fields. Keep it outside of the database."""
    by: str
    """The database user."""
    actor: str | None
    """The person or service that the caller named."""
    document: str | None = None
    """The signed seal, one line of JSON, when it was taken with a key. The database does not store it."""


class SignedSeal(NamedTuple):
    """A seal read from a signed document."""

    log_id: bytes
    """The log's random id."""
    number: int
    """The seal's number."""
    sealed_at: datetime
    """The time of the seal."""
    streams: int
    """Streams of the log."""
    root: bytes
    """The root of the Merkle tree over all streams."""
    previous: bytes
    """The digest of the previous seal."""
    digest: bytes
    """The digest of the seal."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Evidence that a stream had a certain last event when a seal was taken."""

    seal: int
    """The number of the seal."""
    stream: bytes
    """The stream's random name, 16 bytes."""
    seq: int
    """The number of the stream's last event then."""
    digest: bytes
    """That event's digest."""
    index: int
    """The stream's place in the Merkle tree, from 0."""
    size: int
    """Streams in the tree."""
    path: tuple[bytes, ...]
    """The hashes from the stream's leaf to the root (the audit path of RFC 6962)."""


def digest_of(seal: Seal) -> bytes:
    """A seal's digest, computed from its fields."""
    return sha256(
        _PREFIX
        + seal.previous
        + struct.pack(">q", seal.number)
        + microseconds(seal.sealed_at)
        + struct.pack(">q", seal.streams)
        + seal.root
        + struct.pack(">q", seal.changed)
        + seal.changes
        + sha256(seal.partitions.encode()).digest()
        + sha256(seal.by.encode()).digest()
        + (NO_DIGEST if seal.actor is None else sha256(seal.actor.encode()).digest())
    ).digest()


def verify_proof(proof: Proof, seal: Seal | SignedSeal) -> bool:
    """Check that a proof leads to the root of a seal, without a database.

    The seal's own digest is computed again; the digest of a `SignedSeal` is covered by its signature. The caller then
    compares the seal's digest with the digest that was kept elsewhere, and the proof's `seq` and `digest` with the
    event's.

    Args:
        proof: The proof, from `EventLog.prove` or `read_proof`.
        seal: The seal with the proof's number.

    Returns:
        Whether the proof holds.
    """
    # With other lengths, the parts of one leaf could pass for those of another.
    if len(proof.stream) != 16 or {len(each) for each in (proof.digest, *proof.path)} != {32}:
        return False
    leaf = leaf_hash(_leaf(proof.stream, proof.seq, proof.digest))
    return (
        proof.seal == seal.number
        and proof.size == seal.streams
        and root_by_path(leaf, proof.index, proof.size, proof.path) == seal.root
        and (isinstance(seal, SignedSeal) or digest_of(seal) == seal.digest)
    )


def _leaf(stream: bytes, seq: int, digest: bytes, ended: bytes = b"") -> bytes:
    return stream + struct.pack(">q", seq) + digest + ended


def take_seal(
    statements: Statements, actor: str | None, sign: Callable[[Seal, bytes], str] | None = None
) -> Op[Seal | None]:
    """Seal the log. Run it in one transaction. None: another transaction is sealing, and nothing was done.

    Args:
        sign: makes the seal's document, with the log's id.
    """
    ((number, previous, now, by, partitions, log_id),) = yield Query(statements["begin_seal"])
    if number is None:
        return None
    changes = yield from read_changes(statements, number)
    tree = yield from read_root(statements, number)
    seal = Seal(number, now, tree.size, changes.size, tree.root(), changes.root(), partitions, previous, b"", by, actor)
    seal = seal._replace(digest=digest_of(seal))
    params = (number, seal.streams, seal.changed, seal.root, seal.changes, seal.digest, actor)
    yield Query(statements["finish_seal"], params)
    return seal if sign is None else seal._replace(document=sign(seal, log_id))


def read_root(statements: Statements, seal: int) -> Op[Tree]:
    """The tree over all streams in a seal, from the stored rows."""
    tree = Tree()
    yield from _each_stream(statements, seal, lambda _, leaf: tree.add(leaf))
    return tree


def read_changes(statements: Statements, seal: int) -> Op[Tree]:
    """The tree over the streams that changed or ended between a seal and the one before, from the stored rows."""
    tree = Tree()
    after = b""
    while True:
        rows = yield Query(statements["sealed_changes"], {"seal": seal, "after": after, "rows": PAGE})
        for stream, seq, digest, ended in rows:
            tree.add(leaf_hash(_leaf(stream, seq, digest, ended or b"")))
        if len(rows) < PAGE:
            return tree
        after = rows[-1][0]


def _each_stream(statements: Statements, seal: int, tell: Callable[[bytes, bytes], None]) -> Op[None]:
    after = b""
    while True:
        rows = yield Query(statements["sealed_streams"], {"seal": seal, "after": after, "rows": PAGE})
        for stream, seq, digest, is_live in rows:
            if is_live:
                tell(stream, leaf_hash(_leaf(stream, seq, digest)))
        if len(rows) < PAGE:
            return
        after = rows[-1][0]


def read_seals(
    statements: Statements, *, limit: int, before: int | None = None, number: int | None = None
) -> Op[list[Seal]]:
    """Seals, the latest first.

    Args:
        before: only seals before this number.
        number: only this seal.
    """
    rows = yield Query(statements["read_seals"], {"rows": limit, "before": before, "number": number})
    return [Seal(*row) for row in rows]


def prove(statements: Statements, stream: Stream, number: int | None) -> Op[Proof]:
    """Prove that a stream is in a seal, by default the latest.

    Raises:
        SealNotFoundError: if the seal does not exist.
    """
    seals = yield from read_seals(statements, limit=1, number=number)
    if not seals:
        raise SealNotFoundError(None if number is None else f"the log has no seal {number}")
    (seal,) = seals
    rows = yield Query(statements["sealed_stream"], (*stream, seal.number))
    if not rows:
        raise ThreadNotFoundError(
            f"seal {seal.number} does not have namespace {stream.checkpoint_ns!r} of thread {stream.thread_id!r}: it "
            "had no events then, or it ended since"
        )
    ((name, seq, digest),) = rows
    index = 0

    def count(other: bytes, _: bytes) -> None:
        nonlocal index
        index += other < name

    yield from _each_stream(statements, seal.number, count)
    path = AuditPath(index, seal.streams)
    yield from _each_stream(statements, seal.number, lambda _, leaf: path.add(leaf))
    return Proof(seal.number, name, seq, digest, index, seal.streams, path.hashes())
