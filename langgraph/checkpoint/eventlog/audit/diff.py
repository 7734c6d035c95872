"""States compared with each other, and as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op
from eventlog.errors import InvalidInputError, LogCorruptedError, SerializationError, ThreadNotFoundError
from eventlog.format.values import dumps, loads
from eventlog.read import read_ancestors
from eventlog.streams import EventRef, Stream, storable, text_id
from eventlog.thread_events import settled
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader
from langgraph.checkpoint.eventlog.audit.point_in_time import latest_at, writes_at
from projections.diff import Difference, ValueDifference, differences
from snapshots.fold import Folded
from snapshots.state import CheckpointState

__all__ = ["diff", "state_at"]

#: Ancestors that are looked up at a time.
ANCESTORS = 1000


def diff(
    context: Context, serde: SerializerProtocol, thread_id: Any, before: Any, after: Any, checkpoint_ns: Any
) -> Op[Difference]:
    """Compare two checkpoints. Raises InvalidInputError, ThreadNotFoundError."""
    stream = Stream(text_id(thread_id, "thread_id"), storable(checkpoint_ns, "checkpoint_ns"))
    before, after = text_id(before, "before"), text_id(after, "after")
    reader = context.reader(serde)
    plain = reader.plain
    frames: list[CheckpointState] = []
    for id_ in (before, after):
        frame = yield from reader.read_state(stream, id_)
        if frame is None:
            raise ThreadNotFoundError(
                f"thread {stream.thread_id!r} has no checkpoint {id_!r} in namespace {stream.checkpoint_ns!r}"
            )
        frames.append(frame)
    old, new = frames
    at_old, at_new = (partial(EventRef, stream, frame.seq) for frame in frames)
    same = _same(plain)
    channels: dict[str, list[ValueDifference]] = {}
    unchanged: list[str] = []
    for name in {**old.channels, **new.channels}:
        one, other = old.channels.get(name), new.channels.get(name)
        if one is None:
            assert other is not None
            channels[name] = [ValueDifference("added", (), None, loads(plain, other, at_new(name)))]
        elif other is None:
            channels[name] = [ValueDifference("removed", (), loads(plain, one, at_old(name)), None)]
        # Equal bytes are equal values, and need no look.
        elif one != other and (
            found := differences(loads(plain, one, at_old(name)), loads(plain, other, at_new(name)), same)
        ):
            channels[name] = found
        else:
            unchanged.append(name)
    metadata = differences(
        loads(plain, old.metadata, stream.describe_event(old.seq)),
        loads(plain, new.metadata, stream.describe_event(new.seq)),
        same,
    )
    steps_before = yield from _ancestry(context, stream, before)
    steps_after = yield from _ancestry(context, stream, after)
    common = next((id_ for id_ in steps_before if id_ in steps_after), None)
    return Difference(
        *(*stream, before, after),
        channels=channels,
        unchanged=unchanged,
        metadata=metadata,
        ancestor=common,
        steps_before=None if common is None else steps_before[common],
        steps_after=None if common is None else steps_after[common],
    )


def _ancestry(context: Context, stream: Stream, checkpoint_id: str) -> Op[dict[str, int]]:
    """A checkpoint and its ancestors, nearest first, with how many steps away each is."""
    found: dict[str, int] = {}
    cursor: str | None = checkpoint_id
    while cursor is not None and cursor not in found:
        line = yield from read_ancestors(context.statements, stream, cursor, ANCESTORS)
        for each in line:
            found.setdefault(each.checkpoint_id, len(found))
        cursor = line[-1].parent_id if len(line) == ANCESTORS else None
    return found


def _same(serde: SerializerProtocol) -> Callable[[Any, Any], bool]:
    """Whether two values are the same to the log: whether they serialize alike."""

    def same(one: Any, other: Any) -> bool:
        if type(one) in (str, int, bool, bytes):
            return bool(one == other)
        try:
            return dumps(serde, one, "a value") == dumps(serde, other, "a value")
        except SerializationError:
            return bool(one == other)

    return same


def state_at(
    context: Context, serde: SerializerProtocol, thread_id: Any, time: Any, checkpoint_ns: Any
) -> Op[CheckpointTuple | None]:
    """What the latest checkpoint was at a time. Raises as `EventLog.state_at`."""
    stream = Stream(text_id(thread_id, "thread_id"), storable(checkpoint_ns, "checkpoint_ns"))
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise InvalidInputError("time must be a datetime with a time zone")
    read = partial(_read_state, context, context.reader(serde), stream, time)
    return (yield from settled(context.statements, stream.thread_id, read))


def _read_state(context: Context, reader: Reader, stream: Stream, time: datetime) -> Op[CheckpointTuple | None]:
    latest = yield from latest_at(context.statements, stream, time)
    if latest is None:
        return None
    checkpoint_id, seq = latest
    frame = yield from reader.state_after(stream, seq, checkpoint_id)
    if frame is None:
        raise LogCorruptedError(f"event {seq} of thread {stream.thread_id!r} is missing")
    frame = replace(frame, checkpoint_id=checkpoint_id)
    writes = yield from writes_at(context.statements, stream, checkpoint_id, time)
    return (yield from reader.decode(Folded(stream, frame, writes)))
