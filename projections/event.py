"""An event as it is shown: decoded when asked for, as far as it says things itself.

States are not folded: a checkpoint's event says which channels changed, not what they are now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from eventlog.streams import EventRef, Stream
from projections.metadata import run_id_of

__all__ = ["Event", "Write", "is_internal"]


class Write(NamedTuple):
    """One write of a task, with its value."""

    idx: int
    channel: str
    value: Any


def is_internal(channel: str) -> bool:
    """Whether a channel is LangGraph's own: tasks, interrupts, errors, branches, joins."""
    return channel.startswith(("__", "branch:", "join:"))


class Event:
    """One event, of a kind that `kind` says (`eventlog.events.Kind`).

    Decoding raises LogCorruptedError, naming the event and its position; the serializer's own errors pass through.
    """

    def __init__(
        self, stored: StoredEvent, codec: Codec, serde: SerializerProtocol, *, is_replay: bool = False
    ) -> None:
        self.stored = stored
        self._codec = codec
        self._serde = serde
        self.restated: WritesSaved | None = None
        """The writes without differences from the state that they were made on: to be set where `needs_state`."""
        self.unresolved: LogCorruptedError | None = None
        """Why that is not possible."""
        self.is_replay = is_replay
        """Whether it was in the feed before, and is again because what it built on was erased: nothing new happened.

        A projection that began later than that sees it for the first time, and then this is false.
        """
        self.stream: Stream = stored.stream
        self.cursor: Cursor = stored.cursor
        """Where the feed goes on after this event."""
        self.thread_id: str = stored.thread_id
        self.checkpoint_ns: str = stored.checkpoint_ns
        """The namespace: empty for the root graph."""
        self.checkpoint_id: str = stored.checkpoint_id
        """The checkpoint that was saved, or that the writes belong to."""
        self.seq: int = stored.seq
        """The event's number in its stream (thread and namespace)."""
        self.kind = Kind(stored.kind)
        self.recorded_at: datetime = stored.recorded_at
        self.stored_bytes: int = len(stored.body)
        """The size of its body in the log."""
        self.ref = EventRef(self.stream, self.seq)

    def __repr__(self) -> str:
        return (
            f"<Event {self.kind.name} {self.seq} of thread {self.thread_id!r}, namespace {self.checkpoint_ns!r}, "
            f"at {self.cursor}>"
        )

    @contextmanager
    def _placed(self) -> Iterator[None]:
        try:
            yield
        except LogCorruptedError as exc:
            raise LogCorruptedError(f"{exc} (its position in the log is {self.stored.position})") from exc

    def check_kind(self) -> None:
        """Raises LogCorruptedError for a kind that this version does not know."""
        if not self.kind.is_known:
            with self._placed():
                raise LogCorruptedError(
                    f"{self.ref} is of kind {self.kind.value}, which this version does not know: upgrade the package, "
                    "or the event was altered"
                )

    @property
    def error(self) -> Exception | None:
        """Why a part of the event does not decode; None where all of it does. What was decoded for this is not kept."""
        kept = dict(self.__dict__)
        try:
            _ = self.metadata, self.writes
            return None
        except Exception as exc:  # A user's serializer raises what it likes.
            return exc
        finally:
            self.__dict__ = kept

    @cached_property
    def _body(self) -> CheckpointSaved | WritesSaved | dict[str, Any]:
        """What it says."""
        self.check_kind()
        body, context = self.stored.body, str(self.ref)
        with self._placed():
            if self.kind == Kind.CHECKPOINT_SAVED:
                return self._codec.decode_checkpoint(body, context)
            if self.kind == Kind.WRITES_SAVED:
                return self._codec.decode_writes(body, context)
            return decode_operation_record(body, context).says

    @property
    def encoded_bytes(self) -> int:
        """The size of its body before it was compressed and encrypted."""
        return len(self.stored.body) if isinstance(self._body, dict) else self._body.size

    # --- checkpoints

    @property
    def saved(self) -> CheckpointSaved | None:
        """The checkpoint as it is stored. None for other kinds."""
        return self._body if isinstance(self._body, CheckpointSaved) else None

    @property
    def parent_id(self) -> str | None:
        """The checkpoint's parent. None also for other kinds."""
        return None if self.saved is None else self.saved.parent_id

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The checkpoint's metadata (``source``, ``step``, …). Empty for other kinds."""
        with self._placed():
            return {} if self.saved is None else loads_fields(self._serde, self.saved.metadata, self.ref)

    @property
    def run_id(self) -> str | None:
        """The run that saved the checkpoint, if its metadata names one."""
        return run_id_of(self.metadata)

    @property
    def actor(self) -> str | None:
        """On whose behalf it was: `actor` of the graph's config, or of the operation. None where neither said so."""
        if self.written is not None:
            return self.written.actor
        actor = (self.metadata if self.operation is None else self.operation).get("actor")
        return actor if type(actor) is str else None

    @property
    def changed(self) -> tuple[str, ...]:
        """The channels whose value is another one than at the parent."""
        return () if self.saved is None else tuple(self.saved.channels)

    # --- writes

    @property
    def written(self) -> WritesSaved | None:
        """The writes as they are stored. None for other kinds."""
        return self._body if isinstance(self._body, WritesSaved) else None

    @property
    def task_id(self) -> str | None:
        """The task whose writes they are. None for other kinds."""
        return None if self.written is None else self.written.task_id

    @property
    def task_path(self) -> str | None:
        """Where the task is in the graph."""
        return None if self.written is None else self.written.task_path

    @cached_property
    def writes(self) -> Sequence[Write]:
        """The task's writes, in its order. Empty for other kinds.

        Writes to LangGraph's own channels that repeat the state (the tasks of `create_react_agent`) are left out.
        """
        if self.written is None:
            return []
        pairs = zip(self.written.writes, (self.restated or self.written).writes, strict=True)
        with self._placed():
            return [
                self._write(idx, channel, stated.op)
                for (idx, channel, op), stated in pairs
                if type(op) is Full or not is_internal(channel)
            ]

    def _write(self, idx: int, channel: str, op: Operation) -> Write:
        if self.unresolved is not None:
            raise self.unresolved
        if type(op) is not Full:
            raise LogCorruptedError(f"{self.ref} does not decode: a write that is a difference from nothing")
        return Write(idx, channel, loads(self._serde, Serialized(*op), self.ref._replace(channel=channel)))

    def needs_state(self) -> bool:
        """Whether a write is stated as a difference from the state that it was made on."""
        if self.stored.base_seq is None or self.written is None:
            return False
        return any(type(op) is not Full and not is_internal(channel) for _, channel, op in self.written.writes)

    # --- operations

    @property
    def operation(self) -> dict[str, Any] | None:
        """What an operation on the thread (deleted, pruned, copied, …) recorded of itself. None for other kinds."""
        return self._body if isinstance(self._body, dict) else None
