"""Events as stored, and the cursors of the feed."""

from __future__ import annotations

import re
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from eventlog.errors import InvalidInputError
from eventlog.streams import Stream

__all__ = [
    "BaseRef",
    "Cursor",
    "DistributedCursor",
    "Kind",
    "ShardPlace",
    "StoredEvent",
    "cursor_columns",
    "stored_cursor",
]


class Kind(IntEnum):
    """The kind of an event, as stored."""

    CHECKPOINT_SAVED = 1
    """A saver put a checkpoint."""
    WRITES_SAVED = 2
    """A saver put the writes of a task."""
    THREAD_DELETED = 3
    """The thread was deleted: the event is its tombstone."""
    PARTLY_ERASED = 4
    """Checkpoints of the thread were erased."""
    COPIED = 5
    """The thread was copied from another thread."""
    IMPORTED = 6
    """The thread was imported."""

    @classmethod
    def _missing_(cls, value: object) -> Kind | None:
        """A kind that this version does not know: a newer version may have written the event."""
        if type(value) is not int:
            return None
        kind = int.__new__(cls, value)
        kind._name_, kind._value_ = f"UNKNOWN_{value}", value
        return kind

    @property
    def is_known(self) -> bool:
        """Whether this version of the package knows the kind."""
        return self.name in Kind.__members__


_CURSOR = re.compile(
    r"([0-9]{1,10})-([0-9]{1,19})-([0-9]{1,19})((?:\.[0-9a-f]{8}-[0-9a-f]{8}-[0-9]{1,19}-[0-9]{1,19})*)"
)

#: Hashes of thread ids are numbers with a sign, of 32 bits.
_LOWEST_HASH = -(2**31)


class ShardPlace(NamedTuple):
    """A place in a part of a distributed log's feed: the events of a range of threads that one node recorded."""

    low: int
    """The least hash of a thread id in the range."""
    high: int
    """The greatest."""
    xid: int
    """The transaction of the last event before the place."""
    position: int
    """Its position. The highest 16 bits tell the node."""

    @property
    def origin(self) -> int:
        """The Citus group id of the node that recorded the events."""
        return self.position >> 48

    def __str__(self) -> str:
        return f"{self.low - _LOWEST_HASH:08x}-{self.high - _LOWEST_HASH:08x}-{self.xid}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> ShardPlace:
        """The place of a text that is known to be one."""
        low, high, xid, position = text.split("-")
        return cls(int(low, 16) + _LOWEST_HASH, int(high, 16) + _LOWEST_HASH, int(xid), int(position))


class Cursor(NamedTuple):
    """A place in the feed, between two events."""

    generation: int
    """1 for a new log; each restore from another cluster begins the next."""
    xid: int
    """The transaction of the last event before the place. On a distributed log, of those that are from before the
    distribution."""
    position: int
    """The position of the last event before the place, as `xid`."""

    @property
    def shards(self) -> tuple[ShardPlace, ...]:
        """On a distributed log, the places in its parts that have events before the cursor, in their order."""
        return ()

    def __str__(self) -> str:
        return f"{self.generation}-{self.xid}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor of a text. `str()` of a cursor gives the text, such as `1-8123-4567`.

        The text is longer on a distributed log: up to about 50 characters for each shard.

        Args:
            text: The text.

        Returns:
            The cursor.

        Raises:
            InvalidInputError: The text is not a cursor.
        """
        if found := _CURSOR.fullmatch(text):
            *numbers, text_of_shards = found.groups()
            cursor = Cursor(*map(int, numbers))
            shards = tuple(map(ShardPlace.parse, text_of_shards.split(".")[1:]))
            places: tuple[Cursor | ShardPlace, ...] = (cursor, *shards)
            if 1 <= cursor.generation < 2**31 and all(max(each.xid, each.position) < 2**63 for each in places):
                return DistributedCursor(*cursor, shards) if shards else cursor
        raise InvalidInputError(f"{text!r} is not a cursor of the feed: a cursor looks like 1-8123-4567")


class DistributedCursor(Cursor):
    """A cursor of a log that is distributed over the nodes of a Citus cluster."""

    _shards: tuple[ShardPlace, ...] = ()

    def __new__(cls, generation: int, xid: int, position: int, shards: tuple[ShardPlace, ...]) -> DistributedCursor:
        """A cursor with entries."""
        made = super().__new__(cls, generation, xid, position)
        made._shards = shards
        return made

    @property
    def shards(self) -> tuple[ShardPlace, ...]:
        return self._shards

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (*self, self._shards)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DistributedCursor) and (tuple(self), self._shards) == (tuple(other), other._shards)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((*self, self._shards))

    def __str__(self) -> str:
        return ".".join([super().__str__(), *map(str, self._shards)])

    def __repr__(self) -> str:
        return f"Cursor.parse({str(self)!r})"


def stored_cursor(generation: int | None, xid: int, position: int, text: str | None) -> Cursor | None:
    """A cursor that is stored as `cursor_columns`."""
    if text is not None:
        return Cursor.parse(text)
    return None if generation is None else Cursor(generation, xid, position)


def cursor_columns(cursor: Cursor | None, event: StoredEvent | None = None) -> dict[str, Any]:
    """How a cursor is stored: on a distributed log, its text too.

    Args:
        event: the event that it is after, if it is stored with this event's place.
    """
    if cursor is None:
        return dict.fromkeys(("generation", "xid", "position", "cursor"))
    place = cursor if event is None else event
    text = str(cursor) if cursor.shards else None
    return {"generation": cursor.generation, "xid": place.xid, "position": place.position, "cursor": text}


class BaseRef(Protocol):
    """The event that a difference builds on, or at which a reader knows the state: `snapshots.state` has it."""

    seq: int
    recorded_at: datetime | None
    epoch: int
    """The stream's, when the event was read or written."""
    keyframe_seq: int
    keyframe_at: datetime | None
    """Where replaying it starts."""
    state_bytes: int
    """The size of the state after it."""


class StoredEvent(NamedTuple):
    """An event as it is stored.

    The feed's events have the fields that this table describes. The others are read only to verify the log, and fields
    that a query does not read keep their defaults.
    """

    seq: int
    """The number in its stream."""
    base_seq: int | None
    """The event that the state is a difference from; None for a self-contained event."""
    recorded_at: datetime
    """The time of the append, or of the relocation."""
    body: bytes
    """The body, compressed, and encrypted in an encrypted log."""
    kind: Kind = Kind.CHECKPOINT_SAVED
    """The kind."""
    checkpoint_id: str = ""
    """The checkpoint that was saved or written to."""
    checkpoint_ns: str = ""
    """The namespace; empty for the root graph."""
    thread_id: str = ""
    """The thread."""
    position: int = 0
    """The position in the log."""
    digest: bytes = b""
    """The digest in the stream's chain, 32 bytes."""
    as_of: datetime | None = None
    """The time of the first append of a relocated event; in the record of an operation, the time before which the
    stream's earlier events are void."""
    first_at: datetime | None = None
    xid: int = 0
    """The transaction that appended it."""
    generation: int = 0
    """The generation of the feed."""
    # With the two below, the input of its digest: read only for verification.
    state_digest: bytes | None = None
    origin_base_seq: int | None = None
    origin_body_digest: bytes | None = None
    feed_cursor: Cursor | None = None
    """On a distributed log, the place in the feed after the event."""

    @property
    def stream(self) -> Stream:
        """The thread and the namespace."""
        return Stream(self.thread_id, self.checkpoint_ns)

    @property
    def cursor(self) -> Cursor:
        """The place in the feed after the event."""
        return self.feed_cursor or Cursor(self.generation, self.xid, self.position)

    @property
    def is_replay(self) -> bool:
        """Whether the event was relocated: its content was in the feed before."""
        return self.as_of is not None and self.kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED)

    @property
    def saved_at(self) -> datetime:
        """The time of the first append."""
        return self.as_of if self.as_of is not None and self.is_replay else self.recorded_at
