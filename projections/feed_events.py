"""An event of the feed, as those see it who follow the log: decoded when asked for, as far as it says things itself.

States are not folded: a checkpoint's event says which channels changed, not what they are now.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.errors import LogCorruptedError
from eventlog.events import Cursor, Kind, StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import CheckpointSaved, Serialized, WritesSaved
from eventlog.format.delta import Full, Operation
from eventlog.format.values import loads, loads_fields
from eventlog.records import decode_operation_record
from eventlog.streams import Stream
from projections.metadata import run_id_of

__all__ = ["Event", "Write", "is_internal"]


class Write(NamedTuple):
    """One write of a task, with its value."""

    idx: int
    channel: str
    value: Any


def is_internal(channel: str) -> bool:
    """Whether a channel is LangGraph's own: tasks, interrupts, errors, branches."""
    return channel.startswith(("__", "branch:"))


class Event:
    """One event, of a kind that `kind` says (`eventlog.events.Kind`).

    Args:
        stored: what the feed gave.
        codec, serde: of the saver.
        resolved: a writes event without differences from the state that it was made on, where it has some.
        is_replay: whether the reader has seen it before.

    Decoding raises LogCorruptedError, naming the event; the serializer's own errors pass through.
    """

    def __init__(
        self,
        stored: StoredEvent,
        codec: Codec,
        serde: SerializerProtocol,
        resolved: WritesSaved | None = None,
        *,
        is_replay: bool,
    ) -> None:
        self._stored = stored
        self._codec = codec
        self._serde = serde
        self._resolved = resolved
        self.is_replay = is_replay
        """Whether it was in the feed before, and is again because what it built on was erased: nothing new happened.

        A projection that began later than that sees it for the first time, and then this is false.
        """
        self.stream: Stream = stored.stream
        """The stream that it is in."""
        self.cursor: Cursor = stored.cursor
        """Where the feed goes on after this event."""
        self.thread_id: str = stored.thread_id
        """The thread."""
        self.checkpoint_ns: str = stored.checkpoint_ns
        """The namespace: empty for the root graph."""
        self.checkpoint_id: str = stored.checkpoint_id
        """The checkpoint that was saved, or that the writes belong to."""
        self.seq: int = stored.seq
        """The event's number in its stream (thread and namespace)."""
        self.kind = Kind(stored.kind)
        """What happened."""
        self.recorded_at: datetime = stored.recorded_at
        """When it was appended."""
        self.stored_bytes: int = len(stored.body)
        """The size of its body in the log."""

    def __repr__(self) -> str:
        return (
            f"<Event {self.kind.name} {self.seq} of thread {self.thread_id!r}, namespace {self.checkpoint_ns!r}, "
            f"at {self.cursor}>"
        )

    # --- checkpoints

    @property
    def parent_id(self) -> str | None:
        """The checkpoint's parent. None also for other kinds."""
        return self._saved.parent_id if self._saved is not None else None

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The checkpoint's metadata (``source``, ``step``, …). Empty for other kinds."""
        return {} if self._saved is None else loads_fields(self._serde, self._saved.metadata, self._context)

    @property
    def run_id(self) -> str | None:
        """The run that saved the checkpoint, if its metadata names one."""
        return run_id_of(self.metadata)

    @property
    def changed(self) -> tuple[str, ...]:
        """The channels whose value is another one than at the parent."""
        return tuple(self._saved.channels) if self._saved is not None else ()

    # --- writes

    @property
    def task_id(self) -> str | None:
        """The task whose writes they are. None for other kinds."""
        return self._written.task_id if self._written is not None else None

    @property
    def task_path(self) -> str | None:
        """Where the task is in the graph."""
        return self._written.task_path if self._written is not None else None

    @cached_property
    def writes(self) -> Sequence[Write]:
        """The task's writes, in its order. Empty for other kinds.

        Writes to LangGraph's own channels that repeat the state (the tasks of `create_react_agent`) are left out.
        """
        if self._written is None:
            return []
        stated = self._written if self._resolved is None else self._resolved
        return [
            Write(
                each.idx,
                each.channel,
                loads(self._serde, self._value(each.op), f"{self._context} channel {each.channel!r},"),
            )
            for each, stored in zip(stated.writes, self._written.writes, strict=True)
            if type(stored.op) is Full or not is_internal(stored.channel)
        ]

    # --- operations

    @cached_property
    def operation(self) -> dict[str, Any] | None:
        """What an operation on the thread (deleted, pruned, copied, …) recorded of itself. None for other kinds."""
        if self.kind <= Kind.WRITES_SAVED:
            return None
        return decode_operation_record(self._stored.body, self._context)

    # --- decoding

    @cached_property
    def _saved(self) -> CheckpointSaved | None:
        if self.kind != Kind.CHECKPOINT_SAVED:
            return None
        return self._codec.decode_checkpoint(self._stored.body, self._context)

    @cached_property
    def _written(self) -> WritesSaved | None:
        if self.kind != Kind.WRITES_SAVED:
            return None
        return self._codec.decode_writes(self._stored.body, self._context)

    def _value(self, op: Operation) -> Serialized:
        if type(op) is Full:
            return Serialized(*op)
        raise LogCorruptedError(f"{self._context} does not decode: a write that is a difference from nothing")

    @property
    def _context(self) -> str:
        return (
            f"event {self.seq} of thread {self.thread_id!r}, namespace {self.checkpoint_ns!r}, at {self.cursor} "
            "of the feed,"
        )

    def needs_state(self) -> bool:
        """Whether a write is stated as a difference from the state that it was made on."""
        if self.kind != Kind.WRITES_SAVED or self._stored.base_seq is None or self._resolved is not None:
            return False
        assert self._written is not None
        return any(type(op) is not Full and not is_internal(channel) for _, channel, op in self._written.writes)
