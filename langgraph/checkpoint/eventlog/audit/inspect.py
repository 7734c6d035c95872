"""Looking at one checkpoint as it is stored: what is in it, and of what size, with its values still serialized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op
from eventlog.errors import InvalidInputError
from eventlog.format.contents import Serialized, Version, Versions
from eventlog.format.values import loads
from eventlog.read import CheckpointName, find_checkpoints, read_path
from eventlog.statistics import Stats, read_stats
from eventlog.streams import storable, text_id
from langgraph.checkpoint.eventlog._arguments import count_of, parse_config
from langgraph.checkpoint.eventlog._context import Context
from projections.tuples import StoredWrite

__all__ = ["Inspected", "StoredChannel", "find", "inspect", "stats"]


class StoredChannel(NamedTuple):
    """A channel of a checkpoint."""

    version: Version | None
    value: Serialized
    """The serializer's type tag and bytes: `type`, `data`."""


@dataclass(frozen=True)
class Inspected:
    """A checkpoint as it is stored."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_checkpoint_id: str | None
    seq: int
    """The event that saved it."""
    recorded_at: datetime
    keyframe_seq: int
    """The event from which it was replayed."""
    replayed: int
    """How many events that took, that of the keyframe included."""
    state_bytes: int
    """Of all values, serialized, not compressed."""
    fields: Serialized
    """The checkpoint's own fields: a dict of all but its id, values and versions."""
    metadata: Serialized
    channels: dict[str, StoredChannel]
    """Those that have a value."""
    versions: Versions
    """Of all channels, also those without a value."""
    versions_seen: dict[str, Versions]
    """By node, the versions of the channels that it last ran on."""
    writes: list[StoredWrite]
    """Pending writes, in LangGraph's order."""
    _loads: Callable[[Serialized], Any] = field(repr=False, compare=False)

    def load(self, value: Serialized) -> Any:
        """Decode a value with the log's serializer; its errors pass through."""
        return self._loads(value)


def inspect(context: Context, serde: SerializerProtocol, config: RunnableConfig) -> Op[Inspected | None]:
    """The checkpoint that the config names, or the latest of its thread and namespace; None without one."""
    reader = context.reader(serde)
    stream, checkpoint_id, _ = parse_config(config)
    # From the log alone, whatever the cache knows.
    path = yield from read_path(context.statements, stream, checkpoint_id, None)
    if path is None:
        return None
    frame = reader.folder(stream).fold_path(path, None).state
    writes = yield from reader.writes_of(stream, path.writes, frame)
    return Inspected(
        *stream,
        checkpoint_id=frame.checkpoint_id,
        parent_checkpoint_id=frame.parent_id,
        seq=frame.seq,
        recorded_at=path.recorded_at,
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
    )


def find(
    context: Context, checkpoint_id: Any, thread_id: Any, checkpoint_ns: Any, limit: Any
) -> Op[list[CheckpointName]]:
    """Checkpoints by how their ids begin. Raises InvalidInputError."""
    prefix = text_id(checkpoint_id, "checkpoint_id")
    thread = None if thread_id is None else text_id(thread_id, "thread_id")
    ns = None if checkpoint_ns is None else storable(checkpoint_ns, "checkpoint_ns")
    if thread is None and ns is not None:
        raise InvalidInputError("checkpoint_ns is a namespace of a thread: give its thread_id, too")
    return (yield from find_checkpoints(context.statements, prefix, thread, ns, count_of(limit, "limit")))


def stats(context: Context, exact: Any) -> Op[Stats]:
    """The log in numbers. Raises InvalidInputError."""
    if not isinstance(exact, bool):
        raise InvalidInputError(f"exact must be a bool, not {type(exact).__name__}")
    return (yield from read_stats(context.statements, context.states.stats, exact=exact))
