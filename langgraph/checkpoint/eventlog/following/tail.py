"""Following the feed, as steps: what to read next, which events that gave, how long to wait."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg

from eventlog.db.query import Op, Pause, Query, Steps
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError
from eventlog.events import Cursor, StoredEvent
from eventlog.feed import channel_of, cursor_of, read_end, read_feed
from langgraph.checkpoint.eventlog._arguments import count_of, ids_of, seconds_of

__all__ = ["SHORTEST_PAUSE", "notify", "tail", "waking"]

#: The first pause after an event, in seconds. Each one that brings nothing is followed by one twice as long.
SHORTEST_PAUSE = 0.05


def tail(
    statements: Statements, after: Any, is_followed: bool, poll_interval: Any, thread_ids: Any, limit: Any
) -> Steps[StoredEvent]:
    """The events of one `tail` call. Validates first (InvalidInputError).

    A pause is seldom more than a few times what passed since the last event, and never more than `poll_interval`: a
    reader of a busy log learns of an event soon, and a reader of a quiet one asks seldom.
    """
    threads = None if thread_ids is None else ids_of(thread_ids, "thread_ids")
    if threads == []:
        raise InvalidInputError("thread_ids names no thread: give at least one, or None for all")
    cursor, longest = cursor_of(after), seconds_of(poll_interval, "poll_interval")
    left = None if limit is None else count_of(limit, "limit")
    shortest = pause = min(SHORTEST_PAUSE, longest)
    while left != 0:
        page = yield partial(read_feed, statements, cursor, threads=threads)
        cursor, events = page.cursor, page.events[:left]
        yield events
        left = None if left is None else left - len(events)
        pause = shortest if page.events else pause
        if page.is_end and left != 0:
            if not is_followed:
                return
            yield Pause(pause, longest)
            pause = min(pause * 2, longest)


def notify(statements: Statements, seconds: float) -> Steps[Cursor]:
    """The cursors that one `notify_appends` call tells, with so many seconds between two looks."""
    told: Cursor | None = None
    while True:
        end = yield partial(_tell_end, statements, told)
        if end != told:
            told = end
            yield [end]
        yield Pause(seconds, seconds)


def _tell_end(statements: Statements, told: Cursor | None) -> Op[Cursor]:
    """Look where the feed ends, and tell those who listen if that is news."""
    end = yield from read_end(statements)
    if end != told:
        yield Query(b"select pg_notify(%s, %s)", (channel_of(statements), str(end)))
    return end


def waking(wake: Any, *, is_async: bool) -> Any:
    """The connection that `tail` listens on. Raises InvalidInputError."""
    kind = psycopg.AsyncConnection if is_async else psycopg.Connection
    if wake is not None and not isinstance(wake, kind):
        raise InvalidInputError(f"wake must be a psycopg {kind.__name__} of its own, not {type(wake).__name__}")
    if wake is not None and not wake.autocommit:
        raise InvalidInputError(
            "wake must be a connection in autocommit mode: PostgreSQL delivers no notifications inside a transaction"
        )
    return wake
