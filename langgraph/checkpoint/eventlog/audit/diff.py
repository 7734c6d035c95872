"""Comparing two states, and reading a state as it was at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op
from eventlog.errors import LogCorruptedError, SerializationError, ThreadNotFoundError
from eventlog.format.contents import Serialized
from eventlog.format.upcasting import version_in
from eventlog.format.values import dumps
from eventlog.read import read_ancestors
from eventlog.streams import EventRef, Stream, storable, text_id
from eventlog.thread_events import settled
from langgraph.checkpoint.eventlog._arguments import one_of, time_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader
from langgraph.checkpoint.eventlog.audit.point_in_time import latest_at, writes_at
from projections.diff import Difference, Undecodable, ValueDifference, differences
from projections.message_cache import ValueDecoder
from snapshots.fold import Folded
from snapshots.state import CheckpointState

__all__ = ["diff", "state_at"]

#: Ancestors that are looked up at a time.
ANCESTORS = 1000


def diff(
    context: Context,
    serde: SerializerProtocol,
    thread_id: Any,
    before: Any,
    after: Any,
    checkpoint_ns: Any,
    on_undecodable: Any,
) -> Op[Difference]:
    """Compare two checkpoints. Raises InvalidInputError, ThreadNotFoundError, LogCorruptedError."""
    stream = Stream(text_id(thread_id, "thread_id"), storable(checkpoint_ns, "checkpoint_ns"))
    before, after = text_id(before, "before"), text_id(after, "after")
    reader = context.reader(serde)
    shows = one_of(on_undecodable, "on_undecodable", "stop", "show") == "show"
    load = partial(_load, shows)
    frames: list[CheckpointState] = []
    for id_ in (before, after):
        frame = yield from reader.read_state(stream, id_)
        if frame is None:
            raise ThreadNotFoundError(
                f"thread {stream.thread_id!r} has no checkpoint {id_!r} in namespace {stream.checkpoint_ns!r}"
            )
        frames.append(frame)
    old, new = frames
    metadata_of = [load(reader.decoder, frame.metadata, stream.describe_event(frame.seq)) for frame in frames]
    old_values, new_values = (
        reader.upcasting_decoder(frame.checkpoint_id, version_in(metadata))
        for frame, metadata in zip(frames, metadata_of, strict=True)
    )
    at_old, at_new = (partial(EventRef, stream, frame.seq) for frame in frames)
    same = _same(reader.plain)
    channels: dict[str, list[ValueDifference]] = {}
    unchanged: list[str] = []
    for name in {**old.channels, **new.channels}:
        one, other = old.channels.get(name), new.channels.get(name)
        if one is None:
            assert other is not None
            channels[name] = [ValueDifference("added", (), None, load(new_values, other, at_new(name)))]
        elif other is None:
            channels[name] = [ValueDifference("removed", (), load(old_values, one, at_old(name)), None)]
        # Equal bytes are equal values: no need to decode them.
        elif one != other and (
            found := _compare(load(old_values, one, at_old(name)), load(new_values, other, at_new(name)), same)
        ):
            channels[name] = found
        else:
            unchanged.append(name)
    metadata = _compare(metadata_of[0], metadata_of[1], same)
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


def _load(shows: bool, decoder: ValueDecoder, value: Serialized, context: object) -> Any:
    """A value; or a placeholder if it does not decode and `shows` is true."""
    try:
        return decoder.value(value, context)
    except LogCorruptedError as exc:
        if not shows:
            raise
        return Undecodable(*value, str(exc))


def _compare(before: Any, after: Any, same: Callable[[Any, Any], bool]) -> list[ValueDifference]:
    if isinstance(before, Undecodable) or isinstance(after, Undecodable):
        return [] if before == after else [ValueDifference("changed", (), before, after)]
    return differences(before, after, same)


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
    """The latest checkpoint as it was at a time. Raises as `EventLog.state_at`."""
    stream = Stream(text_id(thread_id, "thread_id"), storable(checkpoint_ns, "checkpoint_ns"))
    read = partial(_read_state, context, context.reader(serde), stream, time_of(time, "time"))
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
