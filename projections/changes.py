"""Changes: what the events of a thread changed, decoded; and nothing else is.

A value is kept as what it was last known as and the operations since. What was appended to a list is in the event by
itself and is decoded from there. Other changes need the value, and only then is it put together: of a conversation to
which every event appends, it never is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import zstandard
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.errors import LogCorruptedError
from eventlog.format.contents import Serialized
from eventlog.format.delta import DROP, Cross, Operation, payload_bytes, value_after
from eventlog.format.values import loads
from eventlog.streams import EventRef, Stream
from projections.history import ChannelChange, Described, HistoryEntry, Opened
from projections.value_summary import Appended, array_of
from snapshots.state import CheckpointState

__all__ = ["Change", "Changer"]

#: The values of recent states, of all streams of a thread together.
KEPT_BYTES = 32 * 1024 * 1024

#: A value that was not asked for in so many events is put together nevertheless, so as not to keep all of them.
LONGEST_CHAIN = 32


class Change(NamedTuple):
    """An event, and what it says."""

    entry: HistoryEntry
    values: list[Any]
    """One for each of the entry's `channels`: a list of what was appended, None for what was removed, the value for
    all else."""


class _Value:
    """A serialized value, put together when it is asked for."""

    __slots__ = ("_base", "_op", "_value", "depth")

    def __init__(self, value: Serialized | None, op: Operation = DROP, base: _Value | None = None) -> None:
        self._value, self._op, self._base = value, op, base
        self.depth: int = 0 if value is not None or base is None else base.depth + 1

    @classmethod
    def after(cls, op: Operation, base: _Value | None, limit: int) -> _Value:
        made = cls(None, op, base)
        if base is None or made.depth > LONGEST_CHAIN:
            made.resolve(limit)
        return made

    def resolve(self, limit: int) -> Serialized:
        operations: list[Operation] = []
        start: _Value | None = self
        while start is not None and start._value is None:
            operations.append(start._op)
            start = start._base
        self._value = value_after(reversed(operations), None if start is None else start._value, limit)
        self._op, self._base, self.depth = DROP, None, 0
        return self._value

    @property
    def weight(self) -> int:
        """What it keeps in memory, its base aside, in bytes."""
        return 100 + (payload_bytes(self._op) if self._value is None else len(self._value.data))


_State = dict[str, _Value]


class Changer:
    """Decodes what records tell of.

    Args:
        serde: the plain serializer.
        limit: the most bytes that decompressing one value may produce.
        thread_id: whose events they are.
    """

    def __init__(self, serde: SerializerProtocol, limit: int, thread_id: str) -> None:
        self._serde = serde
        self._limit = limit
        self._thread_id = thread_id
        self._states: OrderedDict[tuple[str, int], tuple[_State, int]] = OrderedDict()
        self._bytes = 0

    @property
    def kept_bytes(self) -> int:
        """About how much it has in memory."""
        return self._bytes

    def wanted(self, opened: Opened) -> tuple[str, int] | None:
        """The state that has to be read before an event's values can be told; None when all is at hand."""
        return None if opened.base in self._states else opened.base

    def learn(self, state: tuple[str, int], frame: CheckpointState | None) -> None:
        """The values of a state that was read. Raises LogCorruptedError when it is not there."""
        if frame is None:
            where = f"thread {self._thread_id!r}, namespace {state[0]!r},"
            raise LogCorruptedError(f"event {state[1]} of {where} is missing, and later events build on it")
        self._keep(state, {channel: _Value(value) for channel, value in frame.channels.items()}, frame.state_bytes)

    def _keep(self, state: tuple[str, int], values: _State, weight: int) -> None:
        self._states[state] = values, weight
        self._bytes += weight
        while self._bytes > KEPT_BYTES and len(self._states) > 1:
            _, (_, size) = self._states.popitem(last=False)
            self._bytes -= size

    def change(self, described: Described) -> Change:
        """What an event says; of a stream, oldest first. The serializer's own errors pass through.

        Raises:
            LogCorruptedError: when the event does not fit its base.
        """
        logged = described.opened.logged
        event = EventRef(Stream(self._thread_id, logged.checkpoint_ns), logged.seq)
        try:
            serialized = self._values(described)
        except (ValueError, KeyError, zstandard.ZstdError) as exc:
            raise LogCorruptedError(f"{event} does not fit its base: {type(exc).__name__}: {exc}") from exc
        changes = zip(described.entry.channels, serialized, strict=True)
        return Change(
            described.entry,
            [
                None if each is None else loads(self._serde, each, event._replace(channel=change.channel))
                for change, each in changes
            ],
        )

    def _values(self, described: Described) -> list[Serialized | None]:
        opened = described.opened
        base: Mapping[str, _Value] = self._states[opened.base][0] if opened.base is not None else {}
        if opened.writes is not None:
            return [self._after(channel, op, base).resolve(self._limit) for _, channel, op in opened.writes.writes]
        if opened.checkpoint is None:
            return []
        event = opened.checkpoint
        values = dict(base)
        new: list[_Value] = []
        for channel in event.versions.removed:
            values.pop(channel, None)
        for channel, op in event.channels.items():
            if op is DROP:
                values.pop(channel, None)
            else:
                values[channel] = self._after(channel, op, base)
                new.append(values[channel])
        found = [self._value(change, described.appended, values) for change in described.entry.channels]
        self._keep(opened.state, values, sum(each.weight for each in new))
        return found

    def _after(self, channel: str, op: Operation, base: Mapping[str, _Value]) -> _Value:
        return _Value.after(op, base[op.source] if type(op) is Cross else base.get(channel), self._limit)

    def _value(
        self, change: ChannelChange, found: Mapping[str, Appended], values: Mapping[str, _Value]
    ) -> Serialized | None:
        if change.what == "removed":
            return None
        if change.what == "appended":
            return array_of(found[change.channel])
        return values[change.channel].resolve(self._limit)
