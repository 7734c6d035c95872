"""The feed: every event of the log once, in an order that never changes, including events that commit late.

Events become visible when their transactions commit, in any order. A reader that remembers the greatest position it has
seen would miss events that commit later with a smaller position. So the feed is ordered by transaction id.

* **Order.** ``(xid, position)``, where an event's ``xid`` is the greatest id of the transactions that appended to its
  stream so far (``effective_xid_v1``). Each append to a stream keeps its row locked until the commit, so within a
  stream this is the order of ``seq``.
* **Gate.** The feed delivers events with an ``xid`` below ``pg_snapshot_xmin``: below the ids of all running
  transactions. The id of an event's own transaction is not greater than the event's ``xid``, so that transaction has
  ended, and the event stays.
* **No event appears before a cursor.** A later event is appended by a transaction that was running, or had no id yet,
  when the cursor was read. Its id is at least the ``xmin`` of the snapshot at that time, and its event's ``xid`` is at
  least its id; all delivered events were below that ``xmin``.

Transaction ids belong to one cluster and start over when the log is dumped and restored into another one. Then a new
*generation* of the log begins, which `setup()` or the first reader starts (``start_generation_v1``). So a cursor has
three parts: generation, xid and position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import CursorError, InvalidInputError, NotSetUpError
from eventlog.events import Cursor, Kind, StoredEvent
from eventlog.feed_nodes import Nodes, find_nodes, read_nodes, read_nodes_end, read_nodes_lag
from eventlog.feed_page import COUNT_LIMIT, FeedPage, Holder, Lag

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

#: Bytes of the bodies on a page: no event begins beyond this limit.
PAGE_BYTES = 8 * 1024 * 1024


#: Before the first event.
START = Cursor(1, 0, 0)


def cursor_of(value: Any) -> Cursor | None:
    """A cursor, or its text; None is the start of the log. Raises InvalidInputError for anything else."""
    if value is None:
        return None
    if isinstance(value, (Cursor, str)):
        return Cursor.parse(str(value))
    raise InvalidInputError(f"after must be a Cursor, its text, or None, not {type(value).__name__}")


class _Header(NamedTuple):
    """The statement's columns about the cursor's generation, in its order."""

    newest: int
    is_restored: bool
    is_known: bool
    last_position: int | None
    last_xid: int | None
    xmax: int
    is_standby: bool
    begins: int | None
    xmin: int
    node: int | None
    """On a distributed log, the Citus group id of the server that was asked."""
    keys: list[str] | None
    """On a distributed log, a thread id for each node."""


def read_feed(
    statements: Statements, after: Cursor | None, rows: int = PAGE_EVENTS, *, threads: list[str] | None = None
) -> Op[FeedPage]:
    """The next events after a cursor; None: from the first one on. One round trip, unless a generation ends.

    Leaves out void events, which retention has cut off but not yet dropped with their partition, and erased events: the
    record of the erasure comes in their place.

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
        header = _Header(*found[0][: len(_Header._fields)])
        if header.is_restored:
            yield from go_on_here(statements)
            continue
        _check(cursor, header)
        if header.keys is not None:
            nodes = Nodes(header.keys, header.begins or 0, header.last_position, header.node, header.xmin)
            page = yield from read_nodes(statements, nodes, cursor, rows, PAGE_BYTES, threads)
            if page.events or not page.is_end or header.last_position is None:
                return page
            cursor = Cursor(cursor.generation + 1, 0, 0)
            continue
        # The statement's rows have no order of their own.
        read = sorted((row[len(_Header._fields) :] for row in found[1:]), key=lambda row: row[2:4])
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
    """The end of the feed now: only events that are not settled yet come after it.

    Raises NotSetUpError as `read_feed`.
    """
    while True:
        nodes = yield from find_nodes(statements)
        if nodes is not None:
            return (yield from read_nodes_end(statements, nodes))
        ((generation, is_restored, xid, position),) = yield Query(statements["feed_end"])
        if not is_restored:
            return Cursor(generation, xid or 0, position or 0)
        yield from go_on_here(statements)


def start_generation(statements: Statements) -> Op[int | None]:
    """Start a new generation if the log was restored from elsewhere, or has none yet; returns the newest.

    None: the log is a subscriber, and starts no generation until it has taken over.
    """
    ((generation,),) = yield Query(statements["start_generation"])
    return None if generation is None else int(generation)


def go_on_here(statements: Statements) -> Op[None]:
    """The reader's steps after it finds that the log was restored from elsewhere.

    Raises NotSetUpError when this user or server cannot start a generation, or the log is a subscriber.
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
            "the log is a subscriber of another log, and receives events in another order than the feed's: read the "
            "other log's feed, or this one's after take_over()"
        )


def _check(cursor: Cursor, header: _Header) -> None:
    if not header.is_known:
        raise CursorError(
            f"cursor {cursor} belongs to another database: this log has no generation {cursor.generation} "
            f"(the newest is {header.newest}). Restart from the beginning or from tail_position()"
        )
    if header.keys is None and cursor.shards:
        raise CursorError(
            f"cursor {cursor} belongs to another database, where the log is distributed over several nodes: this one "
            "is not. Restart from the beginning or from tail_position()"
        )
    if header.keys is not None and header.node:
        # A worker does not know the transaction ids of the coordinator.
        is_ahead = False
    elif header.last_position is None:
        # A standby that lags behind will get there; until then no event is missed.
        is_ahead = cursor.xid >= header.xmax and not header.is_standby
    else:
        assert header.last_xid is not None
        is_ahead = cursor.xid > header.last_xid or cursor.position > header.last_position
    if is_ahead:
        raise CursorError(
            f"cursor {cursor} is ahead of the log: it belongs to another database, or to a time that a restore undid. "
            "The log no longer holds the events between its end and the cursor: restart from the beginning or from "
            "tail_position(). (In a repeatable read transaction the cursor may only be newer than the transaction)"
        )


# --- how far a reader is behind


def read_lag(statements: Statements, after: Cursor | None) -> Op[Lag]:
    """How far a cursor is behind; None: the start of the log. Raises CursorError, NotSetUpError as `read_feed`."""
    cursor = after or START
    # `read_feed` rejects a wrong cursor.
    yield from read_feed(statements, cursor, 1, threads=[])
    nodes = yield from find_nodes(statements, cursor.generation)
    if nodes is not None:
        return (yield from read_nodes_lag(statements, nodes, cursor, COUNT_LIMIT))
    while True:
        params = {**cursor._asdict(), "most": COUNT_LIMIT}
        ((is_restored, waiting, oldest_at, unsettled, *holder, is_held, now),) = yield Query(
            statements["feed_lag"], params
        )
        if not is_restored:
            seconds = None if oldest_at is None else (now - oldest_at).total_seconds()
            return Lag(cursor, waiting, seconds, unsettled, Holder(*holder) if is_held else None)
        yield from go_on_here(statements)
