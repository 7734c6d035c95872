"""The part of the log that follows the feed: events in a stable order, their content, and how far a reader is behind.

`EventLog` has these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Literal

from eventlog.events import Cursor, StoredEvent
from eventlog.feed import Lag, cursor_of, read_end, read_lag
from langgraph.checkpoint.eventlog._setup import Connected
from langgraph.checkpoint.eventlog.audit.describe import FeedDescriber
from langgraph.checkpoint.eventlog.following.project import decode
from langgraph.checkpoint.eventlog.following.tail import tail
from projections.event import Event
from projections.history import FeedChange

__all__ = ["LogFollowing"]


class LogFollowing(Connected):
    """The methods of `EventLog` that read the feed."""

    def tail(
        self,
        after: Cursor | str | None = None,
        *,
        follow: bool = False,
        poll_interval: float = 1.0,
        thread_ids: Sequence[str] | None = None,
        limit: int | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Generator[StoredEvent, None, None]:
        """Iterate over the events of the log, each once, in an order that does not change.

        Each event has a `cursor`. Store the cursor together with your result of the event, and continue after it the
        next time. Bodies are as they are stored; `decode` opens them. Erased and void events are left out; the records
        of erasures are events, too. Pages have up to 500 events, and up to 8 MiB. No connection is in use between two
        pages.

        Args:
            after: Continue after this cursor, or its text. None starts with the first event.
            follow: Wait for more at the end of the settled events. False ends there.
            poll_interval: The longest pause between two looks, in seconds, up to 86,400. Pauses are shorter while
                events arrive.
            thread_ids: Only events of these threads.
            limit: Return at most this many events, at least 1. None sets no limit.
            stop: A function such as `threading.Event().is_set`, asked between pages and ten times a second during
                pauses. True ends the iterator.

        Returns:
            An iterator, which reads page by page on demand.

        Raises:
            CursorError: The cursor belongs to another log, or to a time that a restore undid.
            NotSetUpError: The log was restored from another cluster, and this user cannot record that. Run `setup()`
                once as the owner.
        """
        steps = tail(self._context.statements, after, follow, poll_interval, thread_ids, limit, stop)
        return self._driver.stream(steps)

    def tail_changes(
        self,
        after: Cursor | str | None = None,
        *,
        follow: bool = False,
        poll_interval: float = 1.0,
        thread_ids: Sequence[str] | None = None,
        limit: int | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Generator[FeedChange, None, None]:
        """Iterate over the events of the log with the values that changed, decoded.

        It combines `tail` with `changes`. An event that does not decode has an `error` in its entry, and so has an
        event that builds on events that were erased since it was read.

        Args:
            after: Continue after this cursor, or its text: the `event.cursor` of the last `FeedChange`. None starts
                with the first event.
            follow: Wait for more at the end of the settled events. False ends there.
            poll_interval: The longest pause between two looks, in seconds, up to 86,400.
            thread_ids: Only events of these threads.
            limit: Return at most this many events, at least 1. None sets no limit.
            stop: A function, asked between pages and ten times a second during pauses. True ends the iterator.

        Returns:
            An iterator, which reads page by page on demand.

        Raises:
            CursorError: The cursor belongs to another log, or to a time that a restore undid.
            NotSetUpError: The log was restored from another cluster, and this user cannot record that.
        """
        describer = FeedDescriber(self._context, self._context.reader(self.serde))
        return self._driver.stream(
            tail(self._context.statements, after, follow, poll_interval, thread_ids, limit, stop, describer.describe)
        )

    def decode(self, event: StoredEvent, *, on_undecodable: Literal["show", "stop"] = "show") -> Event:
        """Open an event of `tail`: its metadata, its writes, or the record of an operation.

        Each part is decoded when you ask for it. The call reads the log only for writes that are stored as a difference
        from the state that they were made on.

        Args:
            event: An event of `tail`.
            on_undecodable: `"show"` returns an event that does not decode, with its `error`; asking for the part that
                does not decode raises `LogCorruptedError`. `"stop"` decodes everything and raises at once.

        Returns:
            The event.

        Raises:
            LogCorruptedError: The event does not decode, with `on_undecodable="stop"`. The message has its position.
            LogBusyError: The event was erased since it was read.
        """
        return self._driver.run(lambda: decode(self._context, self.serde, event, on_undecodable))

    def tail_position(self) -> Cursor:
        """Return the cursor of the present end: all settled events are before it.

        Returns:
            The cursor. `tail` after it skips the events of the past.

        Raises:
            NotSetUpError: The log was restored from another cluster, and this user cannot record that.
        """
        return self._driver.run(lambda: read_end(self._context.statements))

    def lag(self, after: Cursor | str | None = None) -> Lag:
        """Measure how far a reader of the feed is behind, and which transaction holds the feed back.

        Args:
            after: The reader's cursor, or its text. None is the start of the log.

        Returns:
            The number of waiting events, the age of the oldest in seconds, and the transaction that holds back the
                rest.

        Raises:
            CursorError: The cursor belongs to another log, or to a time that a restore undid.
            NotSetUpError: The log was restored from another cluster, and this user cannot record that.
        """
        return self._driver.run(lambda: read_lag(self._context.statements, cursor_of(after)))
