"""Following the feed, as steps: the next query, its events, and the pause before the next one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from eventlog.db.query import Op, Pause, Steps, Weighed
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError
from eventlog.events import StoredEvent
from eventlog.feed import cursor_of, read_feed
from langgraph.checkpoint.eventlog._arguments import count_of, ids_of, seconds_of, stop_of

__all__ = ["SHORTEST_PAUSE", "tail"]

#: The first pause after an event, in seconds. A pause without a new event is followed by one twice as long.
SHORTEST_PAUSE = 0.05

#: Describes some events.
Describe: TypeAlias = Callable[[list[StoredEvent]], Op[list[Any]]]

#: Events that are described at a time: their values are in memory together.
DESCRIBED = 64


def tail(
    statements: Statements,
    after: Any,
    is_followed: bool,
    poll_interval: Any,
    thread_ids: Any,
    limit: Any,
    stop: Any,
    describe: Describe | None = None,
) -> Steps[Any]:
    """The events of one `tail` call, or the results of `describe` for them. Validates first (InvalidInputError).

    Pauses grow with the time since the last event, up to `poll_interval`: a reader of a busy log gets an event soon,
    and a reader of a quiet log polls rarely.
    """
    threads = None if thread_ids is None else ids_of(thread_ids, "thread_ids")
    if threads == []:
        raise InvalidInputError("thread_ids names no thread: give at least one, or None for all")
    cursor, longest = cursor_of(after), seconds_of(poll_interval, "poll_interval")
    left = None if limit is None else count_of(limit, "limit")
    is_over = stop_of(stop)
    shortest = pause = min(SHORTEST_PAUSE, longest)
    while left != 0 and not is_over():
        page = yield partial(read_feed, statements, cursor, threads=threads)
        cursor, events = page.cursor, page.events[:left]
        if describe is None:
            yield events
        else:
            for start in range(0, len(events), DESCRIBED):
                some = events[start : start + DESCRIBED]
                size = sum(len(event.body) for event in some)
                yield (yield Weighed(partial(describe, some), size))
        left = None if left is None else left - len(events)
        pause = shortest if page.events else pause
        if page.is_end and left != 0:
            if not is_followed:
                return
            yield Pause(pause, stop)
            pause = min(pause * 2, longest)
