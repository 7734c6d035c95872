"""The feed: every event of the log once, in an order that does not change, none missed that commits late.

Events become visible when their transactions commit, in any order. A reader that remembers the greatest position it
has seen misses those that commit later with a smaller one. So the feed goes by transaction ids.

* **Order.** ``(xid, position)``, where an event's ``xid`` is the greatest id of the transactions that appended to its
  stream so far (``effective_xid_v1``). Whoever appends to a stream has its row locked until the commit, so within a
  stream this is the order of ``seq``.
* **Gate.** Delivered are events with an ``xid`` below ``pg_snapshot_xmin``, so below all transactions that are running.
  An event's own transaction has an id that is not greater than its ``xid``: it has ended, and the event stays.
* **Nothing comes in before a cursor.** What is appended later is appended by a transaction that was running, or had no
  id yet, when the cursor was read. Its id is not below the snapshot's ``xmin`` of then, its event's ``xid`` is not
  below its id, and what was delivered was below that ``xmin``.

Transaction ids are those of one cluster. When the log was dumped and restored into another one they start over; then
a new *generation* of the log begins, which whoever notices starts (``start_generation_v1``): `setup()`, or the first
reader. A cursor therefore has three parts: generation, xid and position.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import CursorError, InvalidInputError, NotSetUpError
from eventlog.events import Cursor, Kind, StoredEvent

__all__ = [
    "COUNT_LIMIT",
    "PAGE_BYTES",
    "PAGE_EVENTS",
    "FeedPage",
    "Holder",
    "Lag",
    "cursor_of",
    "read_end",
    "read_feed",
    "read_lag",
    "start_generation",
]

#: Events of a page, at most.
PAGE_EVENTS = 500

#: Bytes of the bodies on a page: no further event begins beyond.
PAGE_BYTES = 8 * 1024 * 1024


#: Before the first event.
START = Cursor(1, 0, 0)


def cursor_of(value: Any) -> Cursor | None:
    """A cursor, also from its text; None is the start of the log. Raises InvalidInputError for anything else."""
    if value is None:
        return None
    if isinstance(value, (Cursor, str)):
        return Cursor.parse(str(value))
    raise InvalidInputError(f"after must be a Cursor, its text, or None, not {type(value).__name__}")


class FeedPage(NamedTuple):
    """Some of the feed."""

    events: list[StoredEvent]
    """Perhaps none, where what was read is void or of other threads."""
    cursor: Cursor
    """Read on after it, even if there are no events."""
    is_end: bool
    """Whether nothing else was settled."""


class _Header(NamedTuple):
    """What the page's statement says of the cursor's generation, in its order."""

    newest: int
    is_restored: bool
    is_known: bool
    last_position: int | None
    last_xid: int | None
    xmax: int
    is_replica: bool


def read_feed(
    statements: Statements, after: Cursor | None, rows: int = PAGE_EVENTS, *, threads: list[str] | None = None
) -> Op[FeedPage]:
    """The next events after a cursor; None: from the first one on. One round trip, unless a generation ends.

    Void events (those that retention cut off and whose partition is not dropped yet) are left out, as are all that were
    erased: the record that says so comes in its place.

    Args:
        rows: at most so many events. There are fewer where their bodies take more than `PAGE_BYTES`.
        threads: only events of these.

    Raises:
        CursorError: when it is not a cursor of this log, or one from a time that a restore undid.
        NotSetUpError: when the log was restored from elsewhere, and this user or server cannot write that down.
    """
    cursor = after or START
    while True:
        params = {**cursor._asdict(), "rows": rows, "bytes": PAGE_BYTES, "threads": threads}
        found = yield Query(statements["read_feed"], params)
        header = _Header(*found[0][:7])
        if header.is_restored:
            yield from go_on_here(statements)
            continue
        _check(cursor, header)
        # The rows of a statement without an order of its own.
        read = sorted((row[7:] for row in found[1:]), key=lambda row: row[2:4])
        events = [
            StoredEvent(seq, base_seq, at, body, Kind(kind), *rest)
            for _, is_wanted, _, _, seq, base_seq, at, body, kind, *rest in read
            if is_wanted
        ]
        is_end = len(read) < rows and (not read or len(read) == read[0][0])
        if read:
            end = Cursor(cursor.generation, *read[-1][2:4])
            return FeedPage(events, end, is_end and header.last_position is None)
        if header.last_position is None:
            return FeedPage([], cursor, True)
        cursor = Cursor(cursor.generation + 1, 0, 0)


def read_end(statements: Statements) -> Op[Cursor]:
    """The end of the feed as of now: after it comes only what is not settled yet.

    Raises NotSetUpError as `read_feed`.
    """
    while True:
        ((generation, is_restored, xid, position),) = yield Query(statements["feed_end"])
        if not is_restored:
            return Cursor(generation, xid or 0, position or 0)
        yield from go_on_here(statements)


def start_generation(statements: Statements) -> Op[int | None]:
    """Start a new generation if the log was restored from elsewhere, or has none yet; returns the newest.

    None: the log is a replica, and has none of its own until it has taken over.
    """
    ((generation,),) = yield Query(statements["start_generation"])
    return None if generation is None else int(generation)


def go_on_here(statements: Statements) -> Op[None]:
    """What a reader does that finds that the log was restored from elsewhere.

    Raises NotSetUpError when this user or server cannot write it down, or the log is a replica.
    """
    try:
        generation = yield from start_generation(statements)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as exc:
        raise NotSetUpError(
            "the log was restored from another cluster, and its feed must begin a new generation, which this user or "
            f"server cannot do ({str(exc).splitlines()[0]}): run setup() once, as the log's owner and on the primary"
        ) from exc
    if generation is None:
        raise NotSetUpError(
            "the log is a replica of another log, and receives events in another order than the feed's: read the "
            "other log's feed, or this one's after take_over()"
        )


def _check(cursor: Cursor, header: _Header) -> None:
    if not header.is_known:
        raise CursorError(
            f"cursor {cursor} belongs to another database: this log has no generation {cursor.generation} "
            f"(the newest is {header.newest}). Restart from the beginning or from tail_position()"
        )
    if header.last_position is None:
        # A replica that has not come so far yet will; there is nothing to miss meanwhile.
        is_ahead = cursor.xid >= header.xmax and not header.is_replica
    else:
        assert header.last_xid is not None
        is_ahead = cursor.xid > header.last_xid or cursor.position > header.last_position
    if is_ahead:
        raise CursorError(
            f"cursor {cursor} is ahead of the log: it belongs to another database, or to a time that a restore undid. "
            "The log no longer holds the events between its end and the cursor: restart from the beginning or from "
            "tail_position(). (In a repeatable read transaction the cursor may only be newer than the transaction)"
        )


# --- how far a reader is behind, and what holds the feed itself back

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
