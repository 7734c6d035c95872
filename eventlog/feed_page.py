"""What readers of the feed get: a page of events, and how far they are behind."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from eventlog.events import Cursor, StoredEvent

__all__ = ["COUNT_LIMIT", "FeedPage", "Holder", "Lag"]


class FeedPage(NamedTuple):
    """A page of the feed."""

    events: list[StoredEvent]
    """Empty if all events that were read are void or of other threads."""
    cursor: Cursor
    """Continue after it, even if there are no events."""
    is_end: bool
    """Whether no more events were settled."""


#: Count events up to this number.
COUNT_LIMIT = 10_000


class Holder(NamedTuple):
    """The oldest transaction that has written and not ended. Events of later transactions are not settled.

    The transaction may belong to any database of the cluster. A user without the role `pg_read_all_stats` sees only
    process, user and database of another user's transaction; on a standby, only the id. Hidden fields are None.
    """

    xid: int
    """The transaction's id."""
    pid: int | None
    """The server process."""
    user: str | None
    """The database user."""
    database: str | None
    """The database."""
    application: str | None
    """The client's `application_name`."""
    state: str | None
    """The state in `pg_stat_activity`, or `"prepared"`."""
    started_at: datetime | None
    """The beginning of the transaction."""
    query: str | None
    """Its last statement."""
    prepared_as: str | None
    """The name of a prepared transaction; otherwise None."""


class Lag(NamedTuple):
    """The distance between a reader of the feed and its end."""

    cursor: Cursor
    """The reader's cursor."""
    waiting: int
    """Settled events after the cursor, counted up to 10,000, void ones included."""
    oldest_seconds: float | None
    """The age of the first waiting event in seconds; None without one."""
    unsettled: int
    """Committed events that wait for an older transaction, counted up to 10,000."""
    held_by: Holder | None
    """The transaction that they wait for; None when no transaction is writing."""
