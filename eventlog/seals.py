"""Seals: at one moment, a Merkle root over the latest digests of all streams, chained to the seal before.

A stream's chain of digests shows what was done to the stream, but not that the whole of it is gone. A seal says which
streams there are and how far each had come. Its digest is a line of text that can be kept where nobody who may
change the database can change it.

What a seal covers is read in one statement, so it is of one moment: what was committed then. It is stored as what
changed since the seal before. A million streams pass by page after page; none of them is kept.
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

#: Streams that are in memory at a time.
PAGE = 5_000

#: What a seal's digest begins with: no other digest of the log does.
_PREFIX = b"eventlog seal 1\n"

#: Stands where there is none.
NO_DIGEST = bytes(32)


class Seal(NamedTuple):
    """What was in the log at one moment. In the order of the statement."""

    number: int
    """1, 2, 3, …"""
    sealed_at: datetime
    streams: int
    """How many there were."""
    changed: int
    """How many of them had changed since the seal before, and how many had ended."""
    root: bytes
    """Of the Merkle tree over all streams."""
    changes: bytes
    """Root of the Merkle tree over those that changed or ended."""
    partitions: str
    """Those that there were: for each a line with name, beginning, end, when it was made, when it was dropped or a
    dash, and the sha256 of its archive or a dash. Times are in hex, as PostgreSQL sends them."""
    previous: bytes
    """The digest of the seal before; 32 zero bytes for the first."""
    digest: bytes
    """Covers all of it: this is what to keep elsewhere."""
    by: str
    """The database user."""
    actor: str | None
    """On whose behalf, if that was said."""
    document: str | None = None
    """The signed seal, one line of JSON, where it was taken with a key. The database does not have it."""


class SignedSeal(NamedTuple):
    """What a signed document says of a seal."""

    log_id: bytes
    number: int
    sealed_at: datetime
    streams: int
    root: bytes
    previous: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """That a stream had come to a certain event when a seal was taken."""

    seal: int
    stream: bytes
    """Its name: 16 random bytes."""
    seq: int
    """The number of its last event then."""
    digest: bytes
    """That event's digest."""
    index: int
    """Its place among the streams, from 0."""
    size: int
    """How many streams there were."""
    path: tuple[bytes, ...]
    """The hashes that lead from it to the root (RFC 6962's audit path)."""


def digest_of(seal: Seal) -> bytes:
    """A seal's digest, computed from what it says."""
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
    """Whether a proof leads to a seal's root, and the seal is what its digest says. Pure: asks no database.

    What remains to the caller is to compare the seal's digest with the one that was kept elsewhere, and the proof's
    number and digest with the event's. A signed seal, as `verify_signed_seals` returns it, has no digest to compute.
    """
    # Of other lengths, the parts of one leaf might be told as those of another.
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
    """Seal the log. Run it in one transaction. None: somebody else is at it, nothing was done.

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
    """The tree over all streams that there were at a seal, from what is stored."""
    tree = Tree()
    yield from _each_stream(statements, seal, lambda _, leaf: tree.add(leaf))
    return tree


def read_changes(statements: Statements, seal: int) -> Op[Tree]:
    """The tree over what a seal has that the one before did not, from what is stored."""
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
        before: only earlier ones than this number.
        number: only this one.
    """
    rows = yield Query(statements["read_seals"], {"rows": limit, "before": before, "number": number})
    return [Seal(*row) for row in rows]


def prove(statements: Statements, stream: Stream, number: int | None) -> Op[Proof]:
    """That a stream is in a seal, the latest by default.

    Raises:
        SealNotFoundError: when there is no such seal.
        ThreadNotFoundError: when the seal does not have the stream.
        LogCorruptedError: when the seal has more streams, or fewer, than it says.
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
