"""One `history()` or `changes()` call: which events are next, page by page, in either direction."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Steps, Weighed
from eventlog.errors import InvalidInputError
from eventlog.events import StoredEvent
from eventlog.streams import storable, text_id
from eventlog.thread_events import Window, read_history, settled
from langgraph.checkpoint.eventlog._arguments import limit_of, one_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.audit.describe import ThreadDescriber, Writers
from projections.history import KINDS, Change, HistoryEntry, parse_cursor

__all__ = ["Reading"]

#: Events of the first page, and of the largest: a caller who stops early pays little.
HISTORY_PAGES = (64, 1024)

#: The same where values are decoded: those of a page are in memory together.
CHANGES_PAGES = (16, 64)

#: The cost of describing an event, as the number of bytes that are decoded in the same time.
EVENT_BYTES = 512


class Reading:
    """One reading of a thread's events. Validates on creation, before anything is read.

    Raises InvalidInputError for an id, cursor, limit or kind that is not one.
    """

    def __init__(
        self,
        context: Context,
        serde: SerializerProtocol,
        thread_id: Any,
        checkpoint_ns: Any,
        after: Any,
        limit: Any,
        newest_first: Any,
        kinds: Any,
        on_undecodable: Any,
        *,
        with_values: bool,
    ) -> None:
        thread = text_id(thread_id, "thread_id")
        self._limit = limit_of(limit)
        if not isinstance(newest_first, bool):
            raise InvalidInputError(f"newest_first must be a bool, not {type(newest_first).__name__}")
        if isinstance(after, Change):
            after = after.entry
        cursor = after.cursor if isinstance(after, HistoryEntry) else after
        self._window = Window(
            thread,
            None if checkpoint_ns is None else storable(checkpoint_ns, "checkpoint_ns"),
            _kinds(kinds),
            newest_first,
            None if cursor is None else parse_cursor(cursor, thread),
        )
        self._statements = context.statements
        self._with_values = with_values
        shows = one_of(on_undecodable, "on_undecodable", "stop", "show") == "show"
        self._describer = ThreadDescriber(context, context.reader(serde), thread, with_values=with_values, shows=shows)

    def steps(self) -> Steps[Any]:
        """All events page by page, each as a `Change`, or as a `HistoryEntry` if values are not requested."""
        size, largest = CHANGES_PAGES if self._with_values else HISTORY_PAGES
        left = self._limit
        while left != 0:
            rows = size if left is None else min(size, left)
            # Estimate the next page's size: its values are probably as large as those before.
            weight = rows * EVENT_BYTES + self._with_values * self._describer.kept_bytes
            read = partial(settled, self._statements, self._window.thread_id, partial(self._read, rows))
            stored, made, writers = yield Weighed(read, weight)
            if not made:
                return
            # The reading advances only here, so that the operation can be started again.
            self._window.move(stored)
            if not self._window.newest_first:
                self._describer.keep(writers)
            yield made if self._with_values else [change.entry for change in made]
            left = None if left is None else left - len(made)
            size = min(size * 4, largest)

    def _read(self, rows: int) -> Op[tuple[list[StoredEvent], list[Change], Writers]]:
        stored = yield from read_history(self._statements, self._window, rows)
        made, writers = yield from self._describer.describe(stored)
        return stored, made, writers


def _kinds(kinds: Any) -> list[int] | None:
    if kinds is None:
        return None
    if isinstance(kinds, str) or not isinstance(kinds, Iterable):
        raise InvalidInputError(f"kinds must be a sequence of kinds, not {type(kinds).__name__}")
    names = list(kinds)
    if unknown := [name for name in names if not isinstance(name, str) or name not in KINDS]:
        raise InvalidInputError(f"unknown kinds {unknown}: there are {', '.join(KINDS)}")
    return [int(KINDS[name]) for name in names]
