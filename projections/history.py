"""History: the effect of each event of a thread, described without decoding a value or folding a state.

A body is opened and its metadata decoded. The effect on a channel follows from the operation in the event and from the
value before (`projections.channel_values`). So the channels of recent states are kept, and a missing base is read. The
description of an event never depends on which events were read before it.

`Change` also has values. Items appended to a list are in the event and are decoded by themselves. For other changes the
value is put together; for a conversation to which every event appends, that never happens.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import zstandard
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.errors import InvalidInputError, LogCorruptedError
from eventlog.events import Kind, StoredEvent
from eventlog.format.contents import CheckpointSaved, Serialized
from eventlog.format.delta import Cross, Drop, Full, Operation, payload_bytes, value_after
from eventlog.format.rope import Rope, Value
from eventlog.format.upcasting import version_in
from eventlog.streams import EventRef, Stream, storable
from eventlog.thread_events import Family, Place
from projections.channel_values import appended, length_in, length_of
from projections.event import Event
from projections.message_cache import DecoderOf, ValueDecoder
from snapshots.state import CheckpointState

__all__ = [
    "KINDS",
    "Change",
    "ChannelChange",
    "Describer",
    "FeedChange",
    "HistoryEntry",
    "StateKey",
    "kind_name",
    "parse_cursor",
    "undecodable",
]

#: The names of the kinds of events in records.
KINDS: Final[Mapping[str, Kind]] = {
    "checkpoint": Kind.CHECKPOINT_SAVED,
    "writes": Kind.WRITES_SAVED,
    "deleted": Kind.THREAD_DELETED,
    "erased": Kind.PARTLY_ERASED,
    "copied": Kind.COPIED,
    "imported": Kind.IMPORTED,
}
_NAMES = {kind: name for name, kind in KINDS.items()}

#: Bytes of the channels of recent states that are kept, for all streams of a thread together.
KEPT_BYTES = 32 * 1024 * 1024

#: A value in more pieces than this is put together after all, so that its pieces are not kept for each event.
MOST_PIECES = 64

#: The memory of a channel's value beside the bytes from the event.
ENTRY_BYTES = 100

#: Fields of a record that only the chain of digests needs.
_BOOKKEEPING = ("erased", "cut", "anchor", "relocated", "records", "previous", "salt", "earlier")

#: The change of a channel, and its value if values are asked for and it was not removed.
_Told = tuple["ChannelChange", "Serialized | None"]

#: Identifies the state after a checkpoint's event: namespace and number.
StateKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """The effect of an event on one channel."""

    channel: str
    """The channel's name."""
    what: str
    """`set` (a value, whatever was there before), `appended` (to a list), `changed` or `removed`; in an event of writes
    `written`."""
    items: int | None
    """Appended items; None for other changes."""
    length: int | None
    """Items of the list after the event, if the value is a list and the event tells."""
    bytes: int
    """Serialized bytes of the value that the event holds."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An event of a thread. `dataclasses.asdict` turns it into plain data.

    For a checkpoint without a parent, `concurrent_with` names the namespace's other first checkpoints.
    """

    thread_id: str
    """The thread."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    seq: int
    """The event's number in its namespace."""
    position: int
    """The event's position in the log. A relocated event gets a new one."""
    time: datetime
    """The time of the first append."""
    relocated_at: datetime | None
    """The time of the last relocation: the event was appended again under its number, because its base was erased.
    Otherwise None."""
    kind: str
    """`checkpoint`, `writes`, `deleted`, `erased` (in part), `copied`, `imported`, or a name such as `unknown_9`."""
    checkpoint_id: str | None
    """The checkpoint that was saved or written to."""
    parent_id: str | None
    """The parent of a saved checkpoint."""
    step: int | None
    """The `step` in the checkpoint's metadata."""
    source: str | None
    """The `source` in the checkpoint's metadata."""
    run_id: str | None
    """The `run_id` in the checkpoint's metadata."""
    actor: str | None
    """The person or service behind the event: `actor` in the run's config, or the operation's `actor`."""
    user_id: str | None
    """The `user_id` in the checkpoint's metadata, which LangGraph takes from the run's config; a number or UUID as
    text."""
    role: str | None
    """The database user of an operation. Events of savers have none."""
    task_id: str | None
    """The task of writes."""
    task_path: str | None
    """The task's path."""
    self_contained: bool
    """Whether the checkpoint was stored whole. `channels` then lists all channels, also unchanged ones."""
    channels: tuple[ChannelChange, ...]
    """The channels that the event changed."""
    encoded_bytes: int
    """Bytes of the body before compression and encryption."""
    stored_bytes: int
    """Bytes of the body as stored."""
    fork: bool
    """Whether the parent already had another child, by the parents that checkpoints have now."""
    concurrent_with: tuple[str, ...]
    """The first 16 of the parent's other children that were saved between the run's read of the parent and this
    checkpoint. A fork without any is deliberate."""
    repeat: bool
    """Whether the event puts a checkpoint again, or a write that its task had put before."""
    operation: dict[str, Any] | None
    """The record of an operation: `operation`, `by`, `actor`, its arguments, and the numbers of `events`, `checkpoints`
    and `bytes`; also `relocated`, `source` or `from`. Otherwise None."""
    error: str | None = None
    """The reason why the event does not decode; otherwise None."""

    @property
    def cursor(self) -> str:
        """The place in the history, as text: pass it as `after` to continue from there."""
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
    """The name of a kind in records."""
    return _NAMES.get(kind, kind.name.lower())


class Change(NamedTuple):
    """An event of a thread with the values that changed."""

    entry: HistoryEntry
    """The entry of the event."""
    values: list[Any]
    """One value for each of the entry's `channels`: the list of new items for `appended`, None for `removed`, otherwise
    the value. Empty for records of operations."""


class FeedChange(NamedTuple):
    """An event of the feed with the values that changed."""

    event: StoredEvent
    """The event, as `tail` returns it. Continue after its `cursor`."""
    entry: HistoryEntry
    """The entry of the event."""
    values: list[Any]
    """The values, as in `Change`."""


def undecodable(event: Event, error: Exception) -> Change:
    """The entry of an event that does not decode."""
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
    """Describes the events of a thread; with a plain serializer, their values too.

    Args:
        limit: the most bytes that decompressing a value may produce.
        decoder_of: makes the decoder of values; by default the serializer decodes them.
    """

    def __init__(self, serde: SerializerProtocol | None, limit: int, decoder_of: DecoderOf | None = None) -> None:
        self._serde = serde
        self._decoder_of = decoder_of
        self._limit = limit
        self._states: OrderedDict[StateKey, tuple[dict[str, Value], int]] = OrderedDict()
        self.kept_bytes = 0
        """The approximate memory of the states that it keeps."""

    def wanted(self, event: Event) -> StateKey | None:
        """The state that must be read before an event can be described; None when none is needed."""
        base = _base(event)
        return None if base in self._states or (self._serde is None and event.written is not None) else base

    def learn(self, stream: Stream, seq: int, state: CheckpointState | None) -> None:
        """Take the state that `wanted` named; None: it is missing, and events on it are described without it.

        Raises LogCorruptedError when it is missing and values are asked for.
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
            user_id=_user_id(event.metadata),
            role=None if event.operation is None else _of(event.operation, "by", str),
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
        if self._decoder_of is None:
            decoder = ValueDecoder(self._serde)
        else:
            decoder = self._decoder_of(event.checkpoint_id, version_in(event.metadata))
        values = [
            None if value is None else decoder.value(value, event.ref._replace(channel=change.channel))
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
            # Without the value before, the entry says only what the operation shows.
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
            # A channel without a version has no value. It may have had none before either.
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


def _user_id(metadata: Mapping[str, Any]) -> str | None:
    value = metadata.get("user_id")
    # Python bounds how long an integer it writes out.
    is_id = type(value) in (str, UUID) or (type(value) is int and value.bit_length() <= 64)
    return str(value) if is_id else None


def _operation(says: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: value for key, value in says.items() if key not in _BOOKKEEPING}
    if says.get("relocated"):
        told["relocated"] = len(says["relocated"])
    return told
