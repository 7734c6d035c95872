"""Reading, erasing, relocating and copying the events of threads.

These operations know events by number, kind and size, never by content. `projections` works out which events survive an
erasure, and how.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import errors as pg

from eventlog.append import into_partition
from eventlog.db.query import Op, Query, Rows
from eventlog.db.statements import Statements
from eventlog.errors import LogCorruptedError, ThreadExistsError
from eventlog.events import StoredEvent

__all__ = [
    "CheckpointEntry",
    "Cut",
    "Erased",
    "Operation",
    "OperationRecord",
    "Outline",
    "StreamTip",
    "ThreadOutline",
    "copy_stream",
    "cut_stream",
    "decode_operation_record",
    "delete_thread",
    "lock_thread",
    "lock_threads",
    "read_outline",
    "read_tips",
    "relocate_events",
    "threads_of_runs",
]


class Erased(NamedTuple):
    """The numbers of an erasure in one thread, done or planned."""

    thread_id: str
    """The thread."""
    events: int
    """Erased events."""
    checkpoints: int
    """Erased checkpoints."""
    bytes: int
    """Bytes of erased bodies and snapshots, as stored."""


class Operation(NamedTuple):
    """The operation that a record is about, and its actor."""

    name: str
    actor: str | None = None
    details_json: str = "{}"
    """Its arguments: a JSON object."""


class StreamTip(NamedTuple):
    """Where a stream ends."""

    thread_id: str
    checkpoint_ns: str
    seq: int
    digest: bytes
    begins_at: datetime | None
    active_at: datetime | None
    """When a saver last appended to it."""
    has_data: bool
    """Whether it has checkpoints or writes, not only records."""
    last_operation: dict[str, Any] | None
    """The content of its last event, if that is a record."""
    now: datetime
    """Later than all events of the stream."""


class CheckpointEntry(NamedTuple):
    """A checkpoint as the projection has it."""

    checkpoint_id: str
    seq: int
    parent_id: str | None
    recorded_at: datetime
    first_at: datetime
    keyframe_seq: int
    keyframe_at: datetime
    state_bytes: int
    run_id: str | None
    root_id: str | None
    """The root graph's checkpoint that a subgraph ran under."""
    delta_channels: list[str]
    """The channels with values that are replayed from writes of ancestors (LangGraph's `DeltaChannel`)."""


@dataclass(slots=True)
class Outline:
    """A stream without its bodies."""

    tip: StreamTip
    events: list[StoredEvent] = field(default_factory=list)
    """In the order of `seq`, without bodies and without void events."""
    body_bytes: dict[int, int] = field(default_factory=dict)
    """Seq to size."""
    checkpoints: dict[str, CheckpointEntry] = field(default_factory=dict)
    snapshots: dict[int, int] = field(default_factory=dict)
    """Seq to size in bytes."""

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The time range of its events: it tells the database which partitions to read."""
        times = [event.recorded_at for event in self.events] or [self.tip.now]
        return min(times), max(times)


#: A thread's streams, by namespace.
ThreadOutline = dict[str, Outline]


@dataclass(slots=True)
class Cut:
    """The effect of an erasure on one stream."""

    seqs: list[int] = field(default_factory=list)
    """Events to erase, including the originals of relocated events."""
    moved: list[int] = field(default_factory=list)
    """Events to relocate as they are."""
    rewritten: list[StoredEvent] = field(default_factory=list)
    """Events to relocate with a self-contained body."""
    gone: list[str] = field(default_factory=list)
    """Checkpoints to erase."""
    gone_snapshots: list[int] = field(default_factory=list)
    changed: list[tuple[str, datetime, int, datetime, bool]] = field(default_factory=list)
    """Checkpoints with a row to change: id, time, keyframe and its time, whether the parent is erased."""
    events: int = 0
    """How many events no longer exist afterwards."""
    bytes: int = 0
    is_end: bool = True
    """Whether no checkpoint and no write survives."""
    written_through: str | None = None
    """The greatest checkpoint id that has writes afterwards."""
    active_at: datetime | None = None
    """When the last surviving event was saved."""


def lock_thread(statements: Statements, thread_id: str) -> Op[list[StreamTip]]:
    """Lock all streams of one thread, as `lock_threads`, for an operation on it alone."""
    locked: list[str] = []
    while True:
        before = locked
        ((locked,),) = yield Query(statements["lock_thread"], (thread_id,))
        if locked == before:
            break
    tips = yield from read_tips(statements, [thread_id])
    return [tip for tip in tips if tip.checkpoint_ns in locked]


def lock_threads(statements: Statements, thread_ids: Sequence[str]) -> Op[list[StreamTip]]:
    """Lock all streams of threads until the transaction ends, as every operation and every append does.

    Returns the locked streams. A stream that begins at the same time is not touched.
    """
    locked: Rows = []
    while True:
        before, locked = locked, (yield Query(statements["lock_streams"], (list(thread_ids),)))
        # Again, if a subgraph's first append was committed while this call waited for the root's row. With that row
        # locked, no other can follow.
        if locked == before:
            break
    # A statement of its own, so that its snapshot is taken under the locks.
    tips = yield from read_tips(statements, thread_ids)
    return [tip for tip in tips if tip[:2] in locked]


def read_tips(statements: Statements, thread_ids: Sequence[str]) -> Op[list[StreamTip]]:
    """The streams of threads, without a lock: for reading only."""
    rows = yield Query(statements["stream_tips"], (list(thread_ids),))
    return [StreamTip(*row) for row in rows]


def read_outline(statements: Statements, thread_id: str, tips: Sequence[StreamTip]) -> Op[ThreadOutline]:
    """A thread's streams without bodies."""
    outline = {tip.checkpoint_ns: Outline(tip) for tip in tips if tip.thread_id == thread_id}
    for seq, base_seq, recorded_at, *rest, size in (yield Query(statements["outline_events"], (thread_id,))):
        stored = StoredEvent(seq, base_seq, recorded_at, b"", *rest)
        if (found := outline.get(stored.checkpoint_ns)) is not None:
            found.events.append(stored)
            found.body_bytes[stored.seq] = size
    for ns, *checkpoint in (yield Query(statements["outline_checkpoints"], (thread_id,))):
        entry = CheckpointEntry(*checkpoint)
        if ns in outline:
            outline[ns].checkpoints[entry.checkpoint_id] = entry
    for ns, seq, size in (yield Query(statements["outline_snapshots"], (thread_id,))):
        if ns in outline:
            outline[ns].snapshots[seq] = size
    return outline


def threads_of_runs(statements: Statements, run_ids: Sequence[str]) -> Op[list[str]]:
    """The threads that have checkpoints of runs."""
    rows = yield Query(statements["threads_of_runs"], (list(run_ids),))
    return [thread_id for (thread_id,) in rows]


def delete_thread(
    statements: Statements,
    thread_id: str,
    operation: Operation,
    *,
    idle_since: datetime | None = None,
    expired_before: datetime | None = None,
) -> Op[Erased | None]:
    """Erase a thread and leave tombstones; None if `idle_since` is given and the thread is not idle.

    Args:
        idle_since: erase it only if nothing was appended since.
        expired_before: leave events recorded before it to the drop of their partition.
    """
    params = (thread_id, operation.name, operation.actor, idle_since, expired_before)
    rows = yield from into_partition(statements, thread_id, Query(statements["delete_thread"], params))
    is_idle, events, checkpoints, size = rows[0]
    return Erased(thread_id, events, checkpoints, size) if is_idle else None


def relocate_events(
    statements: Statements, outline: Outline, seqs: Sequence[int], bodies: Sequence[bytes | None]
) -> Op[None]:
    """Append events again under their numbers, with new bodies (None: as they are). The stream is locked."""
    tip = outline.tip
    params = (tip.thread_id, tip.checkpoint_ns, tip.now, *outline.span, list(seqs), list(bodies))
    yield Query(statements["relocate_events"], params)


def cut_stream(
    statements: Statements, outline: Outline, cut: Cut, operation: Operation, expired_before: datetime | None
) -> Op[None]:
    """Erase the events, checkpoints and snapshots of a cut, after the relocation of the surviving events. The stream is
    locked."""
    ids, recorded, keyframes, keyframes_at, orphaned = (
        [list(column) for column in zip(*cut.changed, strict=True)] if cut.changed else [[]] * 5
    )
    tip = outline.tip
    params = (
        *(tip.thread_id, tip.checkpoint_ns, tip.now, *outline.span, expired_before, *operation),
        *(cut.events, cut.bytes, cut.is_end, cut.seqs, cut.gone, cut.gone_snapshots),
        *(ids, recorded, keyframes, keyframes_at, orphaned, cut.written_through, cut.active_at),
    )
    yield Query(statements["cut_stream"], params)


def copy_stream(
    statements: Statements,
    source: StreamTip,
    target_id: str,
    chosen: tuple[Sequence[int], Sequence[str]] | None,
    operation: Operation,
) -> Op[None]:
    """Copy a stream to another thread.

    Args:
        source: the stream. It is locked, and so is the target's, if it exists.
        chosen: the seqs of the events and the ids of the checkpoints to copy; None copies all.
        operation: recorded in the target, with the source.

    Raises:
        ThreadExistsError: when another process has just appended to the target.
    """
    seqs, ids = (None, None) if chosen is None else (list(chosen[0]), list(chosen[1]))
    params = (source.thread_id, target_id, source.checkpoint_ns, seqs, ids, *operation)
    try:
        yield Query(statements["copy_stream"], params)
    except pg.UniqueViolation as exc:
        # A first append to the target was committed between the check for its data and the lock on its stream.
        raise ThreadExistsError() from exc


class OperationRecord(NamedTuple):
    """The record of an operation."""

    says: dict[str, Any]
    stubs: bytes
    """For each number in its ranges `erased`, in their order: time and leaf (`eventlog.format.digest`)."""


def decode_operation_record(body: bytes, context: str) -> OperationRecord:
    """Decode a record's body. Raises LogCorruptedError, naming `context`."""
    try:
        size = int.from_bytes(body[1:5], "big")
        if body[:1] != b"\x02" or not isinstance(says := json.loads(body[5 : 5 + size]), dict):
            raise ValueError("it is not an operation's record")
    except (ValueError, RecursionError) as exc:
        raise LogCorruptedError(f"{context} does not decode: {exc}") from exc
    return OperationRecord(says, body[5 + size :])
