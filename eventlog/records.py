"""The life of threads and partitions in the log: what is there, what ends, what is copied.

These operations know events by number, kind and size, never by what they say. What survives an erasure, and how, is
worked out in `projections`.
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
    "lock_threads",
    "read_outline",
    "read_tips",
    "relocate_events",
    "threads_of_runs",
]


class Erased(NamedTuple):
    """What went from a thread, or would go."""

    thread_id: str
    events: int
    checkpoints: int
    bytes: int
    """Of bodies and snapshots, as stored."""


class Operation(NamedTuple):
    """What an administrative event says was done, and on whose behalf."""

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
    """Whether it has checkpoints or writes, beside records of what was done to it."""
    last_operation: dict[str, Any] | None
    """What its last event says, where that is a record of an operation."""
    now: datetime
    """Later than all that the stream recorded."""


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
    """The channels whose values are replayed from writes of ancestors (LangGraph's `DeltaChannel`)."""


@dataclass(slots=True)
class Outline:
    """A stream without its bodies."""

    tip: StreamTip
    events: list[StoredEvent] = field(default_factory=list)
    """In the order of `seq`, without bodies; without those that are void."""
    body_bytes: dict[int, int] = field(default_factory=dict)
    """Seq to size."""
    checkpoints: dict[str, CheckpointEntry] = field(default_factory=dict)
    snapshots: dict[int, int] = field(default_factory=dict)
    """Seq to size in bytes."""

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Between which times it was recorded: that tells the database which partitions to look at."""
        times = [event.recorded_at for event in self.events] or [self.tip.now]
        return min(times), max(times)


#: A thread's streams, by namespace.
ThreadOutline = dict[str, Outline]


@dataclass(slots=True)
class Cut:
    """What an erasure does to one stream."""

    seqs: list[int] = field(default_factory=list)
    """Events that go, the originals of those that are relocated among them."""
    moved: list[int] = field(default_factory=list)
    """Events that are relocated as they are."""
    rewritten: list[StoredEvent] = field(default_factory=list)
    """Events that are relocated with a body that needs no base."""
    gone: list[str] = field(default_factory=list)
    """Checkpoints that go."""
    gone_snapshots: list[int] = field(default_factory=list)
    changed: list[tuple[str, datetime, int, datetime, bool]] = field(default_factory=list)
    """Checkpoints whose row changes: id, time, keyframe and its time, whether the parent goes."""
    events: int = 0
    """How many events are not there any more afterwards."""
    bytes: int = 0
    is_end: bool = True
    """Whether no checkpoint and no write survives."""
    written_through: str | None = None
    """The greatest id of a checkpoint that has writes then."""
    active_at: datetime | None = None
    """When the last of what survives was saved."""


def lock_threads(statements: Statements, thread_ids: Sequence[str]) -> Op[list[StreamTip]]:
    """Lock all streams of threads, as every operation and every append does, until the transaction ends.

    Returns those that it has locked. One that comes into being at the same time is not touched.
    """
    locked: Rows = []
    while True:
        before, locked = locked, (yield Query(statements["lock_streams"], (list(thread_ids),)))
        # Again, if a subgraph's first append was committed while this waited for the root's row. Now it cannot be.
        if locked == before:
            break
    # A statement of its own: what it sees is what the locks protect.
    tips = yield from read_tips(statements, thread_ids)
    return [tip for tip in tips if tip[:2] in locked]


def read_tips(statements: Statements, thread_ids: Sequence[str]) -> Op[list[StreamTip]]:
    """The streams of threads as they are, without a lock: to look, not to change."""
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
    """Erase a thread and leave tombstones; None when it is not idle, as was asked for.

    Args:
        idle_since: erase it only if nothing was appended since.
        expired_before: leave what was recorded before to the drop of its partition.
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
    """Erase what goes from a stream, after what is relocated was. The stream is locked."""
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
        source: the stream; it is locked, and so is that of the target, if there is one.
        chosen: the seqs of the events and the ids of the checkpoints to copy; None copies all.
        operation: what the record in the target says, beside the source.

    Raises:
        ThreadExistsError: when somebody else has just appended to the target.
    """
    seqs, ids = (None, None) if chosen is None else (list(chosen[0]), list(chosen[1]))
    params = (source.thread_id, target_id, source.checkpoint_ns, seqs, ids, *operation)
    try:
        yield Query(statements["copy_stream"], params)
    except pg.UniqueViolation as exc:
        # A first append to the target was committed between the look for its data and the lock on its stream.
        raise ThreadExistsError() from exc


class OperationRecord(NamedTuple):
    """The record of an operation."""

    says: dict[str, Any]
    stubs: bytes
    """Of each number in its ranges `erased`, in their order: time and leaf (`eventlog.format.digest`)."""


def decode_operation_record(body: bytes, context: str) -> OperationRecord:
    """The record that a body holds. Raises LogCorruptedError, naming `context`."""
    try:
        size = int.from_bytes(body[1:5], "big")
        if body[:1] != b"\x02" or not isinstance(says := json.loads(body[5 : 5 + size]), dict):
            raise ValueError("it is not an operation's record")
    except (ValueError, RecursionError) as exc:
        raise LogCorruptedError(f"{context} does not decode: {exc}") from exc
    return OperationRecord(says, body[5 + size :])
