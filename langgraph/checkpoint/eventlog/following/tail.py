"""Following the feed, as steps: what to read next, which events that gave, how long to wait."""

from __future__ import annotations

from functools import partial
from typing import Any

from eventlog.db.query import Pause, Steps
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError
from eventlog.events import StoredEvent
from eventlog.feed import cursor_of, read_feed
from langgraph.checkpoint.eventlog._arguments import count_of, ids_of, seconds_of

__all__ = ["SHORTEST_PAUSE", "tail"]

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
            yield Pause(pause)
            pause = min(pause * 2, longest)
