"""An event as readers see it: each part is decoded when it is used.

States are not folded: a checkpoint's event shows which channels changed, not their present values.
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
from projections.message_cache import DecoderOf
from projections.metadata import run_id_of

__all__ = ["Event", "Write", "is_internal"]


class Write(NamedTuple):
    """A write of a task."""

    idx: int
    """The number among the task's writes; negative for errors, interrupts and resumes."""
    channel: str
    """The channel."""
    value: Any
    """The decoded value."""


def is_internal(channel: str) -> bool:
    """Whether a channel is LangGraph's own: tasks, interrupts, errors, branches, joins."""
    return channel.startswith(("__", "branch:", "join:"))


class Event:
    """An event as a projection's `apply` and `EventLog.decode` get it.

    The body is decoded on demand. A part that does not decode raises `LogCorruptedError`, which names the event and its
    position; the serializer's own errors pass through.
    """

    def __init__(
        self,
        stored: StoredEvent,
        codec: Codec,
        serde: SerializerProtocol,
        *,
        is_replay: bool = False,
        decoder_of: DecoderOf | None = None,
    ) -> None:
        self.stored: StoredEvent = stored
        """The event as it is stored."""
        self._decoder_of = decoder_of
        self._codec = codec
        self._serde = serde
        # The writes without differences from the state that they were made on: to be set where `needs_state`.
        self.restated: WritesSaved | None = None
        # The reason why that is not possible.
        self.unresolved: LogCorruptedError | None = None
        self.is_replay: bool = is_replay
        """Whether the event is relocated: it was in the feed before, and its base was erased since.

        False for a projection that sees it for the first time, because it began later.
        """
        self.stream: Stream = stored.stream
        """The thread and the namespace."""
        self.cursor: Cursor = stored.cursor
        """The place in the feed after the event."""
        self.thread_id: str = stored.thread_id
        """The thread."""
        self.checkpoint_ns: str = stored.checkpoint_ns
        """The namespace; empty for the root graph."""
        self.checkpoint_id: str = stored.checkpoint_id
        """The checkpoint that was saved or written to."""
        self.seq: int = stored.seq
        """The event's number in its namespace."""
        self.kind: Kind = Kind(stored.kind)
        """The kind."""
        self.recorded_at: datetime = stored.recorded_at
        """The time of the append."""
        self.stored_bytes: int = len(stored.body)
        """Bytes of the body as stored."""
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
        """The reason why a part does not decode; None when everything does. It decodes everything and keeps nothing."""
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
        """Bytes of the body before compression and encryption."""
        return len(self.stored.body) if isinstance(self._body, dict) else self._body.size

    # --- checkpoints

    @property
    def saved(self) -> CheckpointSaved | None:
        """The checkpoint as it is stored; None for other kinds."""
        return self._body if isinstance(self._body, CheckpointSaved) else None

    @property
    def parent_id(self) -> str | None:
        """The checkpoint's parent; None without one, and for other kinds."""
        return None if self.saved is None else self.saved.parent_id

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The checkpoint's metadata (`source`, `step`, …); empty for other kinds."""
        with self._placed():
            return {} if self.saved is None else loads_fields(self._serde, self.saved.metadata, self.ref)

    @property
    def run_id(self) -> str | None:
        """The run that saved the checkpoint, if its metadata names one."""
        return run_id_of(self.metadata)

    @property
    def actor(self) -> str | None:
        """The person or service behind the event: `actor` in the run's config, or the operation's `actor`; or None."""
        if self.written is not None:
            return self.written.actor
        actor = (self.metadata if self.operation is None else self.operation).get("actor")
        return actor if type(actor) is str else None

    @property
    def changed(self) -> tuple[str, ...]:
        """The channels with another value than at the parent."""
        return () if self.saved is None else tuple(self.saved.channels)

    # --- writes

    @property
    def written(self) -> WritesSaved | None:
        """The writes as they are stored; None for other kinds."""
        return self._body if isinstance(self._body, WritesSaved) else None

    @property
    def task_id(self) -> str | None:
        """The task of writes; None for other kinds."""
        return None if self.written is None else self.written.task_id

    @property
    def task_path(self) -> str | None:
        """The task's path in the graph; None for other kinds."""
        return None if self.written is None else self.written.task_path

    @cached_property
    def writes(self) -> Sequence[Write]:
        """The task's writes, in its order; empty for other kinds.

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
        value, ref = Serialized(*op), self.ref._replace(channel=channel)
        if self._decoder_of is not None:
            return Write(idx, channel, self._decoder_of(self.checkpoint_id, None).value(value, ref))
        return Write(idx, channel, loads(self._serde, value, ref))

    def needs_state(self) -> bool:
        """Whether a write is stated as a difference from the state that it was made on."""
        if self.stored.base_seq is None or self.written is None:
            return False
        return any(type(op) is not Full and not is_internal(channel) for _, channel, op in self.written.writes)

    # --- operations

    @property
    def operation(self) -> dict[str, Any] | None:
        """The record of an operation on the thread (delete, prune, copy, …); None for other kinds."""
        return self._body if isinstance(self._body, dict) else None
