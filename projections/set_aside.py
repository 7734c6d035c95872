"""Events that a projection could not apply: set aside, so that it continues, and kept for a retry.

They are rows of `set_aside`, which change in the transaction that moves the projection's cursor or changes its view.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import EventLogError, LogCorruptedError
from eventlog.events import Cursor, Kind, StoredEvent, cursor_columns
from eventlog.read import read_events
from eventlog.streams import Stream
from projections.event import Event

__all__ = [
    "MOST_SET_ASIDE",
    "Retried",
    "SetAside",
    "drop_erased",
    "feed_event",
    "is_of_event",
    "put_aside",
    "read_page",
    "read_set_aside",
    "take_back",
]

#: With more events than this, the projection is at fault and not its events.
MOST_SET_ASIDE = 10_000

#: Characters of an error's message that are kept; it may quote the event's content.
ERROR_CHARS = 1_000

_ERASURES = (Kind.THREAD_DELETED, Kind.PARTLY_ERASED)


class SetAside(NamedTuple):
    """An event that a projection has set aside."""

    projection: str
    """The projection."""
    thread_id: str
    """The thread."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    seq: int
    """The event's number in its namespace."""
    cursor: Cursor
    """The event's place in the feed."""
    is_replay: bool
    """Whether the projection failed on the relocated copy of an event that it had received before."""
    error: str
    """The last error, its first 1,000 characters."""
    set_aside_at: datetime
    """The time of the last failure."""


class Retried(NamedTuple):
    """The result of applying set-aside events again."""

    applied: int = 0
    """Events that were applied."""
    failed: int = 0
    """Events that failed again and stay aside."""
    gone: int = 0
    """Events that were erased from the log since."""


def is_of_event(exc: EventLogError) -> bool:
    """Whether an event may be the cause of an error, so that other events can be applied.

    It is not the cause if the server, a right or a table of the view is missing, if another transaction was in the way,
    if memory ran out, or if the projection's own service or file did not answer. Then all events would fail.
    """
    cause = exc.__cause__
    if isinstance(exc, LogCorruptedError):
        return True
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate is None:
            # An error of the client: a value that PostgreSQL cannot store, or without a known type.
            return isinstance(cause, (psycopg.DataError, psycopg.ProgrammingError))
        # Invalid data, constraints, errors raised by functions of the view, values too large for an index.
        return cause.sqlstate[:2] in ("21", "22", "23", "44", "54", "P0")
    # Until Python 3.11, asyncio's TimeoutError is no OSError.
    return not isinstance(cause, (EventLogError, MemoryError, OSError, asyncio.TimeoutError))


def read_set_aside(
    statements: Statements,
    name: str | None,
    rows: int,
    *,
    stream: Stream | None = None,
) -> Op[list[SetAside]]:
    """The events that were set aside, ordered by the projection's name and then as in the feed.

    Args:
        name: of the projection; None: all.
        rows: the most that are returned.
        stream: only events of this stream.
    """
    found, _ = yield from read_page(statements, name, rows, stream=stream)
    return found


def read_page(
    statements: Statements,
    name: str | None,
    rows: int,
    *,
    stream: Stream | None = None,
    after: Cursor | None = None,
) -> Op[tuple[list[SetAside], Cursor | None]]:
    """As `read_set_aside`, only events after a place, with the place of the last (None without one).

    A place has the transaction and position of an event, also on a distributed log: no cursor of that.
    """
    params = {
        "name": name,
        "rows": rows,
        **(stream._asdict() if stream else dict.fromkeys(Stream._fields)),
        **cursor_columns(after),
    }
    found = yield Query(statements["read_set_aside"], params)
    aside = [
        SetAside(
            of, thread_id, ns, seq, Cursor(generation, xid, position) if text is None else Cursor.parse(text), *rest
        )
        for of, thread_id, ns, seq, generation, xid, position, text, *rest in found
    ]
    return aside, Cursor(*found[-1][4:7]) if found else None


def put_aside(statements: Statements, name: str, event: Event, cursor: Cursor, error: Exception) -> Op[None]:
    """Set an event aside, or update the error of one that is set aside."""
    # PostgreSQL's text cannot hold NUL or lone surrogates.
    text = str(error).replace("\0", "\\0").encode(errors="backslashreplace").decode()[:ERROR_CHARS]
    params: dict[str, Any] = {
        "name": name,
        **event.stream._asdict(),
        "seq": event.seq,
        **cursor_columns(cursor, event.stored),
        "is_replay": event.is_replay,
        "error": text,
    }
    yield Query(statements["set_aside"], params)


def take_back(statements: Statements, name: str, stream: Stream, seq: int) -> Op[None]:
    """Remove an event from those set aside."""
    yield Query(statements["take_back"], (name, *stream, seq))


def drop_erased(statements: Statements, name: str, events: Sequence[Event]) -> Op[None]:
    """Delete events that were set aside and have been erased, according to records among `events`."""
    for stream in dict.fromkeys(event.stream for event in events if event.kind in _ERASURES):
        aside = yield from read_set_aside(statements, name, MOST_SET_ASIDE, stream=stream)
        there = {each.seq for each in (yield from read_events(statements, stream, [each.seq for each in aside]))}
        for each in aside:
            if each.seq not in there:
                yield from take_back(statements, name, stream, each.seq)


def feed_event(statements: Statements, aside: SetAside) -> Op[StoredEvent | None]:
    """The event that was set aside, as it is in the log now; None when it was erased."""
    stream = Stream(aside.thread_id, aside.checkpoint_ns)
    rows = yield Query(statements["feed_event"], (*stream, aside.seq))
    if not rows:
        return None
    event = StoredEvent(*rows[0])
    cursor = aside.cursor
    return event._replace(
        kind=Kind(event.kind), generation=cursor.generation, feed_cursor=cursor if cursor.shards else None
    )
