"""From folded events to the values and ordered writes that LangGraph reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import zstandard
from langgraph.checkpoint.base import PendingWrite

from eventlog.errors import LogCorruptedError
from eventlog.events import StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import SavedWrite, Serialized, WritesSaved
from eventlog.format.delta import Cross, Full, Operation, value_after
from eventlog.format.rope import Rope
from eventlog.format.values import format_of
from eventlog.streams import EventRef, Stream
from projections.message_cache import ValueDecoder
from snapshots.state import CheckpointState

__all__ = [
    "StoredWrite",
    "checkpoint_of",
    "counted_writes",
    "pending_writes",
    "resolve_writes",
    "restate_writes",
    "value_of_write",
    "written",
]


class StoredWrite(NamedTuple):
    """A pending write of an inspected checkpoint. Writes sort in LangGraph's order."""

    # The fields' order is that of LangGraph's `writes_sort_key`.
    task_path: str
    """The task's path."""
    task_id: str
    """The task."""
    idx: int
    """The number among the task's writes; negative for errors, interrupts and resumes."""
    channel: str
    """The channel."""
    value: Serialized
    """The value: `type`, the serializer's tag, and `data`, the bytes."""
    seq: int
    """The event that saved it."""


def resolve_writes(
    codec: Codec, stream: Stream, events: Sequence[StoredEvent], bases: Mapping[int, CheckpointState], limit: int
) -> list[StoredWrite]:
    """The writes of one checkpoint, in LangGraph's order.

    If a task repeats a write, the first counts for ordinary writes and the last for special ones (negative idx: errors,
    interrupts, resumes), as in LangGraph's savers.

    Args:
        events: the checkpoint's writes events, oldest first.
        bases: the states at their bases, by seq.

    Raises LogCorruptedError when an event does not decode, or does not fit its base.
    """
    return [
        StoredWrite(
            *order,
            channel,
            Serialized(*op)
            if type(op) is Full
            else value_of_write(
                op,
                None if stored.base_seq is None else bases.get(stored.base_seq),
                limit,
                stream.describe_event(stored.seq),
            ),
            stored.seq,
        )
        for order, stored, (_, channel, op) in counted_writes(codec, stream, events)
    ]


def counted_writes(
    codec: Codec, stream: Stream, events: Iterable[StoredEvent]
) -> list[tuple[tuple[str, str, int], StoredEvent, SavedWrite]]:
    """The writes of a checkpoint that count (see `resolve_writes`), in order, each with its place and its event."""
    found: dict[tuple[str, int], tuple[tuple[str, str, int], StoredEvent, SavedWrite]] = {}
    for stored in events:
        event = codec.decode_writes(stored.body, stream.describe_event(stored.seq))
        for write in event.writes:
            key = event.task_id, write.idx
            if write.idx < 0 or key not in found:
                found[key] = (event.task_path, event.task_id, write.idx), stored, write
    return sorted(found.values(), key=lambda each: each[0])


def restate_writes(
    codec: Codec, stream: Stream, events: Sequence[StoredEvent], bases: Mapping[int, CheckpointState], limit: int
) -> list[WritesSaved]:
    """The writes of each event, with differences resolved. Arguments and errors as `resolve_writes`."""
    restated = []
    for stored in events:
        where = stream.describe_event(stored.seq)
        base = None if stored.base_seq is None else bases.get(stored.base_seq)
        event = codec.decode_writes(stored.body, where)
        writes = [
            SavedWrite(idx, channel, Full(*value_of_write(op, base, limit, where))) for idx, channel, op in event.writes
        ]
        restated.append(WritesSaved(event.task_id, event.task_path, writes, event.salt, event.actor))
    return restated


def value_of_write(op: Operation, base: CheckpointState | None, limit: int, where: str) -> Serialized:
    """The value that a write's operation makes from its checkpoint's state. Raises LogCorruptedError."""
    try:
        source = None
        if type(op) is Cross:
            if base is None:
                raise ValueError("the checkpoint's state is missing")
            type_, data = base.channels[op.source]
            source = type_, Rope(data)
        type_, rope = value_after(op, source, limit)
        return Serialized(type_, rope.join())
    except (ValueError, KeyError, zstandard.ZstdError) as exc:
        raise LogCorruptedError(f"{where} does not fit its base: {type(exc).__name__}: {exc}") from exc


def written(decoder: ValueDecoder, stream: Stream, write: StoredWrite) -> Any:
    """A write's value. Errors name its event."""
    return decoder.value(write.value, EventRef(stream, write.seq, write.channel))


def pending_writes(decoder: ValueDecoder, stream: Stream, writes: Iterable[StoredWrite]) -> list[PendingWrite]:
    """Writes with their values."""
    return [(write.task_id, write.channel, written(decoder, stream, write)) for write in writes]


def checkpoint_of(decoder: ValueDecoder, stream: Stream, state: CheckpointState) -> dict[str, Any]:
    """The checkpoint with its values. Nothing in it is shared with the cache of states.

    Raises LogCorruptedError, naming the event that saved it, for what does not decode.
    """
    event = EventRef(stream, state.seq)
    checkpoint: dict[str, Any] = decoder.value(state.fields, event)
    format_of(checkpoint, event)
    checkpoint["id"] = state.checkpoint_id
    checkpoint["channel_versions"] = dict(state.versions)
    checkpoint["versions_seen"] = {node: dict(versions) for node, versions in state.seen.items()}
    checkpoint["channel_values"] = decoder.channels(event, state.channels)
    return checkpoint
