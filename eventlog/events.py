"""Events as stored, and the cursors of the feed."""

from __future__ import annotations

import re
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple, Protocol

from eventlog.errors import InvalidInputError
from eventlog.streams import Stream

__all__ = ["BaseRef", "Cursor", "Kind", "StoredEvent"]


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


_CURSOR = re.compile(r"([0-9]{1,10})-([0-9]{1,19})-([0-9]{1,19})")


class Cursor(NamedTuple):
    """A place in the feed, between two events."""

    generation: int
    """1 for a new log; each restore from another cluster begins the next."""
    xid: int
    """The transaction of the last event before the place."""
    position: int
    """The position of the last event before the place."""

    def __str__(self) -> str:
        return f"{self.generation}-{self.xid}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor of a text. `str()` of a cursor gives the text, such as `1-8123-4567`.

        Args:
            text: The text.

        Returns:
            The cursor.

        Raises:
            InvalidInputError: The text is not a cursor.
        """
        if found := _CURSOR.fullmatch(text):
            cursor = cls(*map(int, found.groups()))
            if 1 <= cursor.generation < 2**31 and max(cursor.xid, cursor.position) < 2**63:
                return cursor
        raise InvalidInputError(f"{text!r} is not a cursor of the feed: a cursor looks like 1-8123-4567")


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

    @property
    def stream(self) -> Stream:
        """The thread and the namespace."""
        return Stream(self.thread_id, self.checkpoint_ns)

    @property
    def cursor(self) -> Cursor:
        """The place in the feed after the event."""
        return Cursor(self.generation, self.xid, self.position)

    @property
    def is_replay(self) -> bool:
        """Whether the event was relocated: its content was in the feed before."""
        return self.as_of is not None and self.kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED)

    @property
    def saved_at(self) -> datetime:
        """The time of the first append."""
        return self.as_of if self.as_of is not None and self.is_replay else self.recorded_at
