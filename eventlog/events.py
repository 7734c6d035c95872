"""Events as stored, and the cursors of the feed."""

from __future__ import annotations

import re
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple, Protocol

from eventlog.errors import InvalidInputError
from eventlog.streams import Stream, StreamHead

__all__ = ["BaseRef", "Cursor", "Kind", "StoredEvent"]


class Kind(IntEnum):
    """Kinds of events, as stored."""

    CHECKPOINT_SAVED = 1
    WRITES_SAVED = 2
    THREAD_DELETED = 3
    PARTLY_ERASED = 4
    COPIED = 5

    @classmethod
    def _missing_(cls, value: object) -> Kind | None:
        """A kind that this version does not know: a newer one may have written the event."""
        if type(value) is not int:
            return None
        kind = int.__new__(cls, value)
        kind._name_, kind._value_ = f"UNKNOWN_{value}", value
        return kind

    @property
    def is_known(self) -> bool:
        """Whether this version knows it."""
        return self.name in Kind.__members__


_CURSOR = re.compile(r"([0-9]{1,10})-([0-9]{1,19})-([0-9]{1,19})")


class Cursor(NamedTuple):
    """A place in the feed: what is before it was read. As text: ``1-8123-4567``."""

    generation: int
    """Counts how often the log was restored from elsewhere, from 1 on."""
    xid: int
    position: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.xid}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor that a text stands for. Raises InvalidInputError when it stands for none."""
        if found := _CURSOR.fullmatch(text):
            cursor = cls(*map(int, found.groups()))
            if 1 <= cursor.generation < 2**31 and max(cursor.xid, cursor.position) < 2**63:
                return cursor
        raise InvalidInputError(f"{text!r} is not a cursor of the feed: a cursor looks like 1-8123-4567")


class BaseRef(Protocol):
    """The event that a difference builds on, or that a reader knows the state of: `snapshots.state` has it."""

    seq: int
    recorded_at: datetime | None
    epoch: int
    """The stream's, when the event was read or written."""
    head: StreamHead | None
    """The stream's last event then, or since."""
    keyframe_seq: int
    keyframe_at: datetime | None
    """Where replaying it starts."""
    state_bytes: int
    """The size of the state after it."""


class StoredEvent(NamedTuple):
    """An event as stored.

    The first four fields are all that a replay takes, and all that there is of a snapshot. What a query does not read
    stays as it is here.
    """

    seq: int
    base_seq: int | None
    recorded_at: datetime
    body: bytes
    """As stored: compressed, and encrypted where the log is."""
    kind: Kind = Kind.CHECKPOINT_SAVED
    checkpoint_id: str = ""
    checkpoint_ns: str = ""
    thread_id: str = ""
    position: int = 0
    digest: bytes = b""
    as_of: datetime | None = None
    first_at: datetime | None = None
    xid: int = 0
    """With `generation`, of an event of the feed."""
    generation: int = 0
    state_digest: bytes | None = None
    """With the two below, what its digest was made of: read for verifying."""
    origin_base_seq: int | None = None
    origin_body_digest: bytes | None = None

    @property
    def stream(self) -> Stream:
        """The stream that it is in."""
        return Stream(self.thread_id, self.checkpoint_ns)

    @property
    def cursor(self) -> Cursor:
        """Where the feed goes on after it."""
        return Cursor(self.generation, self.xid, self.position)

    @property
    def is_replay(self) -> bool:
        """Whether it was relocated: what it says was said before, under the same number, and was erased there."""
        return self.as_of is not None and self.kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED)

    @property
    def saved_at(self) -> datetime:
        """When it was appended; if it was relocated since, when it was appended first."""
        return self.as_of if self.as_of is not None and self.is_replay else self.recorded_at
