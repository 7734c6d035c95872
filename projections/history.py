"""History: what each event of a thread says, told without decoding a value or folding a state.

A body is opened and its metadata decoded. What happened in a channel follows from the operation in the event and from
the *shape* of the value before (`projections.value_summary`), so the shapes of recent states are kept, of no more than
`MOST_STATES`. A base that is not among them has to be read, and so has one of which too little is known. What is told
of an event never depends on what was read before it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import zstandard
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.errors import InvalidInputError, LogCorruptedError
from eventlog.events import Kind, StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import CheckpointSaved, WritesSaved
from eventlog.format.delta import DROP, Cross, Full, Patch, payload_bytes
from eventlog.format.values import loads
from eventlog.records import decode_operation_record
from eventlog.streams import Stream, storable
from eventlog.thread_events import Family, Place
from projections.value_summary import Appended, Shape, appended, is_determined, shape_after, shape_of
from snapshots.state import CheckpointState

__all__ = ["KINDS", "ChannelChange", "Described", "Describer", "HistoryEntry", "Opened", "parse_cursor"]

#: What records call the kinds of events.
KINDS: Final[Mapping[str, Kind]] = {
    "checkpoint": Kind.CHECKPOINT_SAVED,
    "writes": Kind.WRITES_SAVED,
    "deleted": Kind.THREAD_DELETED,
    "erased": Kind.PARTLY_ERASED,
    "copied": Kind.COPIED,
}
_NAMES = {kind: name for name, kind in KINDS.items()}

#: States whose shapes are kept, of all streams of a thread together.
MOST_STATES = 2048

#: What a record says for the chain of digests alone.
_BOOKKEEPING = ("erased", "carried", "uncarried", "records")

#: What reading an operation that does not fit ends in.
_DAMAGE = (ValueError, zstandard.ZstdError)

#: Shapes of a state's channels.
Shapes = dict[str, Shape]


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """What an event did to one channel."""

    channel: str
    what: str
    """`set` (anew, or whatever was there before), `appended` (to a list), `changed`, `removed`; in an event of writes
    `written`."""
    items: int | None
    """How many items were appended, if some were."""
    length: int | None
    """How many items the value has now, if it is a list and the event tells."""
    bytes: int
    """What the event holds of the value, serialized."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One event of a thread. `dataclasses.asdict` makes plain data of it, and times."""

    thread_id: str
    checkpoint_ns: str
    seq: int
    """Its number in its namespace."""
    position: int
    """Unique in the log, and another one once the event is relocated."""
    time: datetime
    """When it was appended; if it was relocated since, when it was appended first."""
    relocated_at: datetime | None
    """When it was relocated: appended again under its number, because what it built on was erased."""
    kind: str
    """`checkpoint`, `writes`; or what was done to the namespace: `deleted`, `erased` (a part of it), `copied`."""
    checkpoint_id: str | None
    """The checkpoint that was saved or written to."""
    parent_id: str | None
    step: int | None
    """With `source` and `run_id`, from the checkpoint's metadata."""
    source: str | None
    run_id: str | None
    task_id: str | None
    task_path: str | None
    self_contained: bool
    """Whether it is a checkpoint that was stored whole, and not as the difference from its parent: `channels` are then
    all that it has, also those that did not change."""
    channels: tuple[ChannelChange, ...]
    encoded_bytes: int
    """The body before it was compressed and encrypted."""
    stored_bytes: int
    """The body as it is stored."""
    fork: bool
    """Whether it saves another child of a parent that had one already."""
    concurrent_with: tuple[str, ...]
    """The other children of the parent (without one: the other beginnings of the namespace) that were saved before it,
    but after its run had read the parent. A fork without any is deliberate. The first 16."""
    repeat: bool
    """Whether it puts a checkpoint again, or a write that its task had put before."""
    operation: dict[str, Any] | None
    """Of `deleted`, `erased` and `copied`: what was done (`operation`), by which database user (`by`) and on whose
    behalf (`actor`), how many `events`, `checkpoints` and `bytes` it was about, its arguments, how many events were
    `carried` forward, the `source` of a copy."""

    @property
    def cursor(self) -> str:
        """The place in the history, as text: to go on from there another time."""
        return json.dumps([self.thread_id, self.time.isoformat(), self.checkpoint_ns, self.seq])


def parse_cursor(cursor: Any, thread_id: str) -> Place:
    """The place that a cursor names.

    Raises:
        InvalidInputError: for what is none, and for one of another thread.
    """
    try:
        of_thread, time, ns, seq = json.loads(cursor)
        place = Place(datetime.fromisoformat(time), storable(ns, "its namespace"), seq)
        is_number = type(seq) is int and 0 <= seq < 2**63
        known = type(of_thread) is str and is_number and place.time.tzinfo is not None
    except (ValueError, TypeError, RecursionError, InvalidInputError) as exc:
        raise InvalidInputError(f"after must be an entry of a history, or its cursor: {exc}") from exc
    if not known:
        raise InvalidInputError("after must be an entry of a history, or its cursor")
    if of_thread != thread_id:
        raise InvalidInputError(f"after is a place in the history of thread {of_thread!r}, not of {thread_id!r}")
    return place


@dataclass(slots=True)
class Opened:
    """An event whose body was opened."""

    logged: StoredEvent
    encoded_bytes: int
    checkpoint: CheckpointSaved | None = None
    writes: WritesSaved | None = None
    says: dict[str, Any] | None = None

    @property
    def state(self) -> tuple[str, int]:
        """The state that a checkpoint's event makes: namespace and number."""
        return self.logged.checkpoint_ns, self.logged.seq

    @property
    def base(self) -> tuple[str, int] | None:
        """The state that it is a difference from."""
        logged = self.logged
        return None if logged.base_seq is None else (logged.checkpoint_ns, logged.base_seq)


@dataclass(slots=True)
class Described:
    """An entry, with what it takes to decode it."""

    entry: HistoryEntry
    opened: Opened
    appended: dict[str, Appended]
    """By channel, what was appended to it."""


class Describer:
    """Makes records of a thread's events.

    Args:
        codec: opens bodies.
        serde: the plain serializer, for the metadata.
        limit: the most bytes that decompressing one value may produce.
        thread_id: whose events they are.
    """

    def __init__(self, codec: Codec, serde: SerializerProtocol, limit: int, thread_id: str) -> None:
        self._codec = codec
        self._limit = limit
        self._serde = serde
        self._thread_id = thread_id
        self._states: OrderedDict[tuple[str, int], Shapes] = OrderedDict()
        self._read: CheckpointState | None = None

    def _context_of(self, logged: StoredEvent) -> str:
        return Stream(self._thread_id, logged.checkpoint_ns).describe_event(logged.seq)

    def _damaged(self, logged: StoredEvent, exc: Exception) -> LogCorruptedError:
        return LogCorruptedError(f"{self._context_of(logged)} does not fit its base: {type(exc).__name__}: {exc}")

    def open(self, logged: StoredEvent) -> Opened:
        """Open an event's body. Raises LogCorruptedError."""
        context = self._context_of(logged)
        if logged.kind == Kind.CHECKPOINT_SAVED:
            checkpoint = self._codec.decode_checkpoint(logged.body, context)
            return Opened(logged, checkpoint.size, checkpoint=checkpoint)
        if logged.kind == Kind.WRITES_SAVED:
            writes = self._codec.decode_writes(logged.body, context)
            return Opened(logged, writes.size, writes=writes)
        return Opened(logged, len(logged.body), says=decode_operation_record(logged.body, context))

    # --- shapes

    def wanted(self, opened: Opened) -> tuple[str, int] | None:
        """The state that has to be read before an event can be described; None when all is at hand.

        Raises LogCorruptedError.
        """
        if opened.checkpoint is None or opened.base is None:
            return None
        base = self._states.get(opened.base)
        if base is None:
            return opened.base
        try:
            told = all(
                is_determined(op, base.get(channel), self._limit)
                for channel, op in opened.checkpoint.channels.items()
                if op is not DROP and type(op) is not Cross
            )
        except _DAMAGE as exc:
            raise self._damaged(opened.logged, exc) from exc
        return None if told else opened.base

    def learn(self, state: tuple[str, int], frame: CheckpointState | None) -> None:
        """The state that was wanted; None: it is not there, and nothing can be told of it."""
        self._read = frame
        if frame is not None:
            self._keep(state, {channel: shape_of(value) for channel, value in frame.channels.items()})

    def _keep(self, state: tuple[str, int], shapes: Shapes) -> None:
        self._states[state] = shapes
        if len(self._states) > MOST_STATES:
            self._states.popitem(last=False)

    # --- records

    def describe(self, opened: Opened, family: Family, *, repeat: bool) -> Described:
        """The entry of an event; of a stream, oldest first. The serializer's own errors pass through.

        Args:
            family: which checkpoints were put again, or are forks.
            repeat: of writes, whether some had been put before.

        Raises:
            LogCorruptedError: when the event does not fit its base.
        """
        metadata: Any = None
        if opened.checkpoint is not None:
            metadata = loads(self._serde, opened.checkpoint.metadata, self._context_of(opened.logged))
        try:
            return self._describe(opened, family, metadata if isinstance(metadata, Mapping) else {}, repeat)
        except _DAMAGE as exc:
            raise self._damaged(opened.logged, exc) from exc
        finally:
            self._read = None

    def _describe(self, opened: Opened, family: Family, metadata: Mapping[str, Any], repeat: bool) -> Described:
        logged, checkpoint, writes = opened.logged, opened.checkpoint, opened.writes
        found: dict[str, Appended] = {}
        changes: list[ChannelChange] = []
        fork = False
        conflicting: list[str] = []
        if checkpoint is not None:
            changes = self._channels(opened, checkpoint, found)
            fork = family.is_fork(logged, checkpoint.parent_id)
            conflicting = family.conflicting(logged, checkpoint.parent_id, checkpoint.observed_latest_id)
            repeat = family.is_repeat(logged)
        elif writes is not None:
            for _, channel, op in writes.writes:
                length = shape_after(op, None, self._limit)[0].items
                changes.append(ChannelChange(channel, "written", None, length, payload_bytes(op)))
        is_record = opened.says is not None
        entry = HistoryEntry(
            thread_id=self._thread_id,
            checkpoint_ns=logged.checkpoint_ns,
            seq=logged.seq,
            position=logged.position,
            time=logged.saved_at,
            relocated_at=logged.recorded_at if logged.recorded_at != logged.saved_at else None,
            kind=_NAMES[Kind(logged.kind)],
            checkpoint_id=None if is_record else logged.checkpoint_id,
            parent_id=None if checkpoint is None else checkpoint.parent_id,
            step=_of(metadata, "step", int),
            source=_of(metadata, "source", str),
            run_id=None if (run_id := metadata.get("run_id")) is None else str(run_id),
            task_id=None if writes is None else writes.task_id,
            task_path=None if writes is None else writes.task_path,
            self_contained=checkpoint is not None and logged.base_seq is None,
            channels=tuple(changes),
            encoded_bytes=opened.encoded_bytes,
            stored_bytes=len(logged.body),
            fork=fork,
            concurrent_with=tuple(conflicting),
            repeat=repeat,
            operation=None if opened.says is None else _operation(opened.says),
        )
        return Described(entry, opened, found)

    def _channels(self, opened: Opened, checkpoint: CheckpointSaved, found: dict[str, Appended]) -> list[ChannelChange]:
        known = opened.base is None or opened.base in self._states
        base = self._states.get(opened.base, {}) if opened.base is not None else {}
        shapes = dict(base)
        changes: list[ChannelChange] = []
        for channel, op in checkpoint.channels.items():
            if op is DROP:
                shapes.pop(channel, None)
                changes.append(ChannelChange(channel, "removed", None, None, 0))
                continue
            before = None if type(op) is Cross else base.get(channel)
            if type(op) in (Full, Patch) and before is not None and self._read and channel in self._read.channels:
                before = before._replace(raw=self._read.channels[channel].data)
            shape, value = shape_after(op, before, self._limit)
            more = appended(op, before, shape, value)
            if more is not None:
                found[channel] = more
                what = "appended"
            else:
                what = "set" if type(op) in (Full, Cross) else "changed"
            shapes[channel] = shape
            items = None if more is None else more.items
            changes.append(ChannelChange(channel, what, items, shape.items, payload_bytes(op)))
        for channel in checkpoint.versions.removed:
            # A channel that has no version has no value either. It may have had none before.
            if shapes.pop(channel, None) is not None or not known:
                changes.append(ChannelChange(channel, "removed", None, None, 0))
        self._keep(opened.state, shapes)
        return changes


def _of(metadata: Mapping[str, Any], key: str, type_: type) -> Any:
    """A user's metadata may hold anything."""
    value = metadata.get(key)
    return value if type(value) is type_ else None


def _operation(says: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: value for key, value in says.items() if key not in _BOOKKEEPING}
    if says.get("carried"):
        told["carried"] = len(says["carried"])
    return told
