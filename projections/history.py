"""History: what each event of a thread did, told without decoding a value or folding a state.

A body is opened and its metadata decoded. What happened in a channel follows from the operation in the event and from
the value before (`projections.channel_values`), so the channels of recent states are kept, and a base that is not among
them has to be read. What is told of an event never depends on what was read before it.

`Change` has the values too, and only they are decoded: what was appended to a list is in the event by itself. Other
changes need the value, and only then is it put together: of a conversation to which every event appends, it never is.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, NamedTuple

import zstandard
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.errors import InvalidInputError, LogCorruptedError
from eventlog.events import Kind
from eventlog.format.contents import CheckpointSaved, Serialized
from eventlog.format.delta import Cross, Drop, Full, Operation, payload_bytes, value_after
from eventlog.format.rope import Rope, Value
from eventlog.format.values import loads
from eventlog.streams import EventRef, Stream, storable
from eventlog.thread_events import Family, Place
from projections.channel_values import appended, length_in, length_of
from projections.event import Event
from snapshots.state import CheckpointState

__all__ = [
    "KINDS",
    "Change",
    "ChannelChange",
    "Describer",
    "HistoryEntry",
    "StateKey",
    "kind_name",
    "parse_cursor",
    "undecodable",
]

#: What records call the kinds of events.
KINDS: Final[Mapping[str, Kind]] = {
    "checkpoint": Kind.CHECKPOINT_SAVED,
    "writes": Kind.WRITES_SAVED,
    "deleted": Kind.THREAD_DELETED,
    "erased": Kind.PARTLY_ERASED,
    "copied": Kind.COPIED,
}
_NAMES = {kind: name for name, kind in KINDS.items()}

#: The channels of recent states, of all streams of a thread together.
KEPT_BYTES = 32 * 1024 * 1024

#: A value in more pieces is put together nevertheless, so as not to keep all of them for each event.
MOST_PIECES = 64

#: What a channel's value takes beside the bytes that an event brought.
ENTRY_BYTES = 100

#: What a record says for the chain of digests alone.
_BOOKKEEPING = ("erased", "cut", "anchor", "relocated", "records", "previous", "salt")

#: What is told of a channel, and its value where it is asked for and was not removed.
_Told = tuple["ChannelChange", "Serialized | None"]

#: The state that a checkpoint's event makes: namespace and number.
StateKey = tuple[str, int]


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
    """`checkpoint`, `writes`, `unknown_9` and the like; or what was done to the namespace:
    `deleted`, `erased` (a part of it), `copied`."""
    checkpoint_id: str | None
    """The checkpoint that was saved or written to."""
    parent_id: str | None
    step: int | None
    """With `source` and `run_id`, from the checkpoint's metadata."""
    source: str | None
    run_id: str | None
    actor: str | None
    """On whose behalf: `config["configurable"]["actor"]` of the graph's run, or the actor of an operation."""
    task_id: str | None
    task_path: str | None
    self_contained: bool
    """Whether it is a checkpoint that was stored whole, and not as the difference from its parent: `channels` are then
    all that it has, also those that did not change."""
    channels: tuple[ChannelChange, ...]
    encoded_bytes: int
    """The body before it was compressed and encrypted."""
    stored_bytes: int
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
    `relocated`, the `source` of a copy."""
    error: str | None = None
    """Why it does not decode. Then there is nothing of what it says."""

    @property
    def cursor(self) -> str:
        """The place in the history, as text: to go on from there another time."""
        return json.dumps([self.thread_id, self.time.isoformat(), self.checkpoint_ns, self.seq])


def parse_cursor(cursor: Any, thread_id: str) -> Place:
    """The place that a cursor names. Raises InvalidInputError for what is none, and for one of another thread."""
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


def kind_name(kind: Kind) -> str:
    """What records call a kind."""
    return _NAMES.get(kind, kind.name.lower())


class Change(NamedTuple):
    """An event, and what it says."""

    entry: HistoryEntry
    values: list[Any]
    """One for each of the entry's `channels`: a list of what was appended, None for what was removed, the value for
    all else."""


def undecodable(event: Event, error: Exception) -> Change:
    """What there is to tell of an event that does not decode."""
    stored = event.stored
    told: dict[str, Any] = dict.fromkeys(each.name for each in fields(HistoryEntry))
    told.update(
        **event.stream._asdict(),
        seq=event.seq,
        position=stored.position,
        time=stored.saved_at,
        relocated_at=event.recorded_at if event.recorded_at != stored.saved_at else None,
        kind=kind_name(event.kind),
        checkpoint_id=event.checkpoint_id or None,
        self_contained=stored.base_seq is None,
        channels=(),
        encoded_bytes=0,
        stored_bytes=event.stored_bytes,
        fork=False,
        concurrent_with=(),
        repeat=False,
        error=str(error),
    )
    return Change(HistoryEntry(**told), [])


class Describer:
    """Tells what the events of a thread did; with a plain serializer, their values too."""

    def __init__(self, serde: SerializerProtocol | None, limit: int) -> None:
        self._serde = serde
        self._limit = limit
        self._states: OrderedDict[StateKey, tuple[dict[str, Value], int]] = OrderedDict()
        self.kept_bytes = 0
        """About how much it has in memory."""

    def wanted(self, event: Event) -> StateKey | None:
        """The state that has to be read before an event can be described; None when all is at hand."""
        base = _base(event)
        return None if base in self._states or (self._serde is None and event.written is not None) else base

    def learn(self, stream: Stream, seq: int, state: CheckpointState | None) -> None:
        """The state that was wanted; None: it is not there, and nothing can be told of it.

        Raises LogCorruptedError when it is not there, and values are asked for.
        """
        if state is not None:
            values = {name: (value.type, Rope(value.data)) for name, value in state.channels.items()}
            self._keep((stream.checkpoint_ns, seq), values, state.state_bytes)
        elif self._serde is not None:
            raise LogCorruptedError(f"{EventRef(stream, seq)} is missing, and later events build on it")

    def _keep(self, key: StateKey, values: dict[str, Value], size: int) -> None:
        self.kept_bytes += size - self._states.pop(key, ({}, 0))[1]
        self._states[key] = values, size
        while self.kept_bytes > KEPT_BYTES and len(self._states) > 1:
            _, (_, gone) = self._states.popitem(last=False)
            self.kept_bytes -= gone

    def describe(self, event: Event, family: Family, *, repeat: bool) -> Change:
        """An event's entry, and its values if they are asked for; of a stream, oldest first.

        Args:
            repeat: of writes, whether some had been put before.

        Raises:
            LogCorruptedError: when the event does not decode, or does not fit its base. The serializer's own errors
                pass through.
        """
        saved, written, stored = event.saved, event.written, event.stored
        told: list[_Told] = []
        try:
            if saved is not None:
                told += self._changes(event, saved)
            elif written is not None:
                base = self._known(event) or {}
                for _, channel, op in written.writes:
                    change = ChannelChange(channel, "written", None, length_in(op), payload_bytes(op))
                    is_asked = self._serde is not None
                    value = value_after(op, _before(op, channel, base), self._limit) if is_asked else None
                    told.append((change, _joined(value)))
        except (ValueError, KeyError, zstandard.ZstdError) as exc:
            raise LogCorruptedError(f"{event.ref} does not fit its base: {type(exc).__name__}: {exc}") from exc
        conflicting = [] if saved is None else family.conflicting(stored, saved.parent_id, saved.observed_latest_id)
        entry = HistoryEntry(
            thread_id=event.thread_id,
            checkpoint_ns=event.checkpoint_ns,
            seq=event.seq,
            position=stored.position,
            time=stored.saved_at,
            relocated_at=event.recorded_at if event.recorded_at != stored.saved_at else None,
            kind=kind_name(event.kind),
            checkpoint_id=event.checkpoint_id if event.operation is None else None,
            parent_id=event.parent_id,
            step=_of(event.metadata, "step", int),
            source=_of(event.metadata, "source", str),
            run_id=event.run_id,
            actor=event.actor,
            task_id=event.task_id,
            task_path=event.task_path,
            self_contained=saved is not None and stored.base_seq is None,
            channels=tuple([change for change, _ in told]),
            encoded_bytes=event.encoded_bytes,
            stored_bytes=event.stored_bytes,
            fork=saved is not None and family.is_fork(stored, saved.parent_id),
            concurrent_with=tuple(conflicting),
            repeat=repeat if saved is None else family.is_repeat(stored),
            operation=None if event.operation is None else _operation(event.operation),
        )
        if self._serde is None:
            return Change(entry, [])
        values = [
            None if value is None else loads(self._serde, value, event.ref._replace(channel=change.channel))
            for change, value in told
        ]
        return Change(entry, values)

    def _known(self, event: Event) -> dict[str, Value] | None:
        """The channels that an event's base has; None where these are not known."""
        base = _base(event)
        return {} if base is None else self._states.get(base, (None, 0))[0]

    def _changes(self, event: Event, saved: CheckpointSaved) -> Iterator[_Told]:
        known = self._known(event)
        base = known or {}
        after = dict(base)
        size = 0
        for channel, op in saved.channels.items():
            after.pop(channel, None)
            if type(op) is Drop:
                yield ChannelChange(channel, "removed", None, None, 0), None
                continue
            before, value, more, length = _before(op, channel, base), None, None, length_in(op)
            # Without the value before, a history tells what the operation says by itself.
            if type(op) is Full or before is not None or self._serde is not None:
                value = after[channel] = value_after(op, before, self._limit)
                if value[1].pieces > MOST_PIECES:
                    value[1].join()
                size += ENTRY_BYTES + (payload_bytes(op) if value[1].pieces > 1 else len(value[1]))
                length = length_of(value)
                if before is not None and type(op) is not Cross:
                    more = appended(op, before, value)
            what = "appended" if more else "set" if type(op) in (Full, Cross) else "changed"
            change = ChannelChange(channel, what, more.items if more else None, length, payload_bytes(op))
            is_asked = self._serde is not None
            yield change, (more.value if more else _joined(value)) if is_asked else None
        for channel in saved.versions.removed:
            # A channel that has no version has no value either. It may have had none before.
            if after.pop(channel, None) is not None or known is None:
                yield ChannelChange(channel, "removed", None, None, 0), None
        self._keep((event.checkpoint_ns, event.seq), after, size)


def _base(event: Event) -> StateKey | None:
    base_seq = event.stored.base_seq
    return None if base_seq is None else (event.checkpoint_ns, base_seq)


def _joined(value: Value | None) -> Serialized | None:
    return None if value is None else Serialized(value[0], value[1].join())


def _before(op: Operation, channel: str, base: Mapping[str, Value]) -> Value | None:
    return base.get(op.source if type(op) is Cross else channel)


def _of(metadata: Mapping[str, Any], key: str, type_: type) -> Any:
    """A user's metadata may hold anything."""
    value = metadata.get(key)
    return value if type(value) is type_ else None


def _operation(says: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: value for key, value in says.items() if key not in _BOOKKEEPING}
    if says.get("relocated"):
        told["relocated"] = len(says["relocated"])
    return told
