"""How far a reader of the feed is behind, and what holds the feed itself back."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.events import Cursor
from eventlog.feed import START, go_on_here, read_feed

__all__ = ["COUNT_LIMIT", "Holder", "Lag", "read_lag"]

#: Events are counted up to here.
COUNT_LIMIT = 10_000


class Holder(NamedTuple):
    """The oldest transaction that has an id and has not ended: no event after it is settled.

    Of another user's a user without the role ``pg_read_all_stats`` sees only process, user and database, and who asks
    a replica only the id. It need not have to do with the log: it may be of any database of the cluster.
    """

    xid: int
    pid: int | None
    user: str | None
    database: str | None
    application: str | None
    state: str | None
    """As ``pg_stat_activity`` has it, or "prepared"."""
    started_at: datetime | None
    query: str | None
    """Its last statement."""
    prepared_as: str | None
    """The name of a prepared transaction."""


class Lag(NamedTuple):
    """What there is after a cursor."""

    cursor: Cursor
    waiting: int
    """Settled events after the cursor, counted up to `COUNT_LIMIT`. Void ones, which no reader gets, count too."""
    oldest_seconds: float | None
    """How long ago the first of them was appended; None when there is none."""
    unsettled: int
    """Committed events that wait for an older transaction to end, counted up to `COUNT_LIMIT`."""
    held_by: Holder | None
    """What they wait for. None: no transaction is writing anything."""


def read_lag(statements: Statements, after: Cursor | None) -> Op[Lag]:
    """How far a cursor is behind; None: the start of the log. Raises CursorError, NotSetUpError as `read_feed`."""
    cursor = after or START
    # What is wrong with a cursor is found there.
    yield from read_feed(statements, cursor, 1, threads=[])
    while True:
        params = {**cursor._asdict(), "most": COUNT_LIMIT}
        ((is_restored, waiting, oldest_at, unsettled, *holder, is_held, now),) = yield Query(
            statements["feed_lag"], params
        )
        if not is_restored:
            seconds = None if oldest_at is None else (now - oldest_at).total_seconds()
            return Lag(cursor, waiting, seconds, unsettled, Holder(*holder) if is_held else None)
        yield from go_on_here(statements)
