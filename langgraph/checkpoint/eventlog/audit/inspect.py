"""Inspecting one checkpoint as it is stored: its content and sizes, with its values still serialized."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Query
from eventlog.errors import InvalidInputError, LogCorruptedError
from eventlog.format.contents import Serialized, Version, Versions
from eventlog.format.upcasting import version_in
from eventlog.format.values import loads
from eventlog.read import (
    CheckpointName,
    Path,
    find_checkpoints,
    latest_of_thread,
    read_ancestors,
    read_event_path,
    read_path,
)
from eventlog.statistics import Stats, read_stats
from eventlog.streams import EventRef, Stream, storable, text_id
from eventlog.thread_events import settled
from langgraph.checkpoint.eventlog._arguments import count_of, parse_config, time_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader
from langgraph.checkpoint.eventlog.audit.point_in_time import latest_at, writes_at
from projections.tuples import StoredWrite

__all__ = ["Inspected", "StepCheckpoint", "StoredChannel", "find", "find_step", "inspect", "stats"]

#: Ancestors that are looked up at a time.
ANCESTORS = 1000


class StoredChannel(NamedTuple):
    """A channel of an inspected checkpoint."""

    version: Version | None
    """The channel's version."""
    value: Serialized
    """The value: `type`, the serializer's tag, and `data`, the bytes."""


class StepCheckpoint(NamedTuple):
    """A checkpoint of a step."""

    thread_id: str
    """The thread."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    checkpoint_id: str
    """The checkpoint."""
    is_on_latest_branch: bool
    """Whether it is the namespace's latest checkpoint, or an ancestor of it."""


@dataclass(frozen=True)
class Inspected:
    """A checkpoint as it is stored. Each value is a type tag and bytes, and `load` decodes it."""

    thread_id: str
    """The thread."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    checkpoint_id: str
    """The checkpoint."""
    parent_checkpoint_id: str | None
    """Its parent; None without one."""
    seq: int
    """The event that saved it."""
    recorded_at: datetime
    """The time of the append, or of the last relocation."""
    saved_at: datetime
    """The time of the first append."""
    keyframe_seq: int
    """The event that the replay started from."""
    replayed: int
    """Replayed events, the keyframe's included."""
    state_bytes: int
    """Serialized bytes of all values, not compressed."""
    fields: Serialized
    """The checkpoint's own fields, a dict without id, values and versions."""
    metadata: Serialized
    """The metadata."""
    channels: dict[str, StoredChannel]
    """The channels that have a value."""
    versions: Versions
    """The versions of all channels."""
    versions_seen: dict[str, Versions]
    """By node, the versions of the channels that it last ran on."""
    writes: list[StoredWrite]
    """Pending writes, in LangGraph's order."""
    _loads: Callable[[Serialized], Any] = field(repr=False, compare=False)
    _upcasts: Callable[[str, Serialized], Any] = field(repr=False, compare=False)

    def load(self, value: Serialized) -> Any:
        """Decode a value with the log's serializer, as it is stored.

        Args:
            value: A value of this checkpoint. Errors of the serializer pass through.

        Returns:
            The decoded value.
        """
        return self._loads(value)

    def upcast(self, channel: str, value: Serialized) -> Any:
        """Decode a value with the log's upcasters, as readers get it.

        Args:
            channel: The channel of the value, or of the write.
            value: A value of this checkpoint.

        Returns:
            The decoded value.

        Raises:
            UpcastError: An upcaster failed.
        """
        return self._upcasts(channel, value)


def inspect(
    context: Context, serde: SerializerProtocol, config: RunnableConfig, at: Any = None
) -> Op[Inspected | None]:
    """The checkpoint that the config names, or the latest of its thread and namespace; None without one.

    Args:
        at: a time: the latest checkpoint at this time, as it was then. Raises as `EventLog.state_at`.
    """
    reader = context.reader(serde)
    stream, checkpoint_id, _ = parse_config(config)
    if at is None:
        # From the log alone, not from the cache.
        path = yield from read_path(context.statements, stream, checkpoint_id, None)
        if path is None:
            return None
        return (yield from _inspected(context, reader, stream, path))
    if checkpoint_id is not None:
        raise InvalidInputError("give a checkpoint_id or a time, not both")
    time = time_of(at, "at")
    return (yield from settled(context.statements, stream.thread_id, partial(_at, context, reader, stream, time)))


def _at(context: Context, reader: Reader, stream: Stream, time: datetime) -> Op[Inspected | None]:
    latest = yield from latest_at(context.statements, stream, time)
    if latest is None:
        return None
    checkpoint_id, seq = latest
    path = yield from read_event_path(context.statements, stream, seq)
    if path is None:
        raise LogCorruptedError(f"event {seq} of thread {stream.thread_id!r} is missing")
    path.checkpoint_id = checkpoint_id
    path.writes = yield from writes_at(context.statements, stream, checkpoint_id, time)
    return (yield from _inspected(context, reader, stream, path))


def _inspected(context: Context, reader: Reader, stream: Stream, path: Path) -> Op[Inspected]:
    frame = reader.folder(stream).fold_path(path, None).state
    writes = yield from reader.writes_of(stream, path.writes, frame)
    saved = yield Query(context.statements["event_saved_at"], (*stream, path.seq))

    def upcast(channel: str, value: Serialized) -> Any:
        version = version_in(loads(reader.plain, frame.metadata, stream.describe_event(frame.seq)))
        decoder = reader.upcasting_decoder(path.checkpoint_id, version)
        return decoder.value(value, EventRef(stream, frame.seq, channel))

    return Inspected(
        *stream,
        checkpoint_id=path.checkpoint_id,
        parent_checkpoint_id=frame.parent_id,
        seq=frame.seq,
        recorded_at=path.recorded_at,
        # It was erased meanwhile, but existed when it was read.
        saved_at=saved[0][0] if saved else path.recorded_at,
        keyframe_seq=frame.keyframe_seq,
        replayed=sum(event.seq > frame.keyframe_seq for event in path.events) + 1,
        state_bytes=frame.state_bytes,
        fields=frame.fields,
        metadata=frame.metadata,
        channels={name: StoredChannel(frame.versions.get(name), value) for name, value in frame.channels.items()},
        versions=dict(frame.versions),
        versions_seen={node: dict(versions) for node, versions in frame.seen.items()},
        writes=writes,
        _loads=partial(loads, reader.plain, context=stream.describe_event(frame.seq)),
        _upcasts=upcast,
    )


def find(
    context: Context, checkpoint_id: Any, thread_id: Any, checkpoint_ns: Any, limit: Any
) -> Op[list[CheckpointName]]:
    """Checkpoints by the beginning of their ids. Raises InvalidInputError."""
    prefix = text_id(checkpoint_id, "checkpoint_id")
    thread = None if thread_id is None else text_id(thread_id, "thread_id")
    ns = None if checkpoint_ns is None else storable(checkpoint_ns, "checkpoint_ns")
    if thread is None and ns is not None:
        raise InvalidInputError("checkpoint_ns needs the thread_id of its thread")
    return (yield from find_checkpoints(context.statements, prefix, thread, ns, count_of(limit, "limit")))


def find_step(context: Context, thread_id: Any, step: Any, checkpoint_ns: Any, limit: Any) -> Op[list[StepCheckpoint]]:
    """Checkpoints by their step, those on the branch of the latest one first. Raises InvalidInputError."""
    stream = Stream(text_id(thread_id, "thread_id"), storable(checkpoint_ns, "checkpoint_ns"))
    if isinstance(step, bool) or not isinstance(step, int) or not -(1 << 31) <= step < 1 << 31:
        raise InvalidInputError(f"step must be an int, such as 3, not {step!r}")
    most = count_of(limit, "limit")
    params = (*stream, json.dumps({"step": step}))
    ids = [id_ for (id_,) in (yield Query(context.statements["checkpoints_of_step"], params))]
    cursor = (yield from latest_of_thread(context.statements, stream.thread_id)).get(stream.checkpoint_ns)
    branch: set[str] = set()
    while cursor is not None and cursor not in branch and not branch.issuperset(ids):
        line = yield from read_ancestors(context.statements, stream, cursor, ANCESTORS)
        branch.update(each.checkpoint_id for each in line)
        cursor = line[-1].parent_id if len(line) == ANCESTORS else None
    found = [StepCheckpoint(*stream, id_, id_ in branch) for id_ in ids]
    return sorted(found, key=lambda each: not each.is_on_latest_branch)[:most]


def stats(context: Context, exact: Any) -> Op[Stats]:
    """The log in numbers. Raises InvalidInputError."""
    if not isinstance(exact, bool):
        raise InvalidInputError(f"exact must be a bool, not {type(exact).__name__}")
    return (yield from read_stats(context.statements, context.states.stats, exact=exact))
