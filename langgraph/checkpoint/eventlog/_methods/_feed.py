"""Following the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg

from eventlog.db.errors import translate
from eventlog.events import Cursor, StoredEvent
from eventlog.feed import cursor_of, read_end
from eventlog.lag import Lag, read_lag
from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog.following.project import decode
from langgraph.checkpoint.eventlog.following.tail import Notifying, Tail, listen, unlisten, wake_lost, waking
from projections.feed_events import Event

__all__ = ["AsyncFeed", "SyncFeed"]


class SyncFeed(SyncMethods):
    """Following the log."""

    def tail(
        self,
        after: Cursor | str | None = None,
        *,
        follow: bool = False,
        poll_interval: float = 1.0,
        thread_ids: Sequence[str] | None = None,
        limit: int | None = None,
        wake: psycopg.Connection[Any] | None = None,
    ) -> Generator[StoredEvent, None, None]:
        """Every event of the log once, in an order that does not change, none missed that commits late.

        Bodies are as they are stored. Each event has its `cursor`: keep the last one's with what was made of it, and
        read on after it another time. What was erased or is void is left out; the records of that are events too. No
        connection is in use between two pages.

        Args:
            after: a cursor or its text; None: from the first event on.
            follow: at the end of what is settled, wait for more, for ever.
            poll_interval: the longest pause between two looks, in seconds. While there are events, pauses are shorter.
            thread_ids: only events of these threads.
            limit: at most so many.
            wake: with `follow`, a connection of its own in autocommit mode, on which to be told of events
                (`notify_appends`) instead of looking more often than every `poll_interval`.

        Raises:
            CursorError: when the cursor is not one of this log, or of a time that a restore undid.
            NotSetUpError: when the log was restored from another cluster and this user cannot write that down.
        """
        tail = Tail(self._context.statements, after, follow, poll_interval, thread_ids, limit)
        return self._tail(tail, waking(wake, psycopg.Connection))

    def _tail(self, tail: Tail, wake: psycopg.Connection[Any] | None) -> Generator[StoredEvent, None, None]:
        try:
            if wake is not None:
                try:
                    wake.execute(listen(self._context))
                except psycopg.Error as exc:
                    raise translate(exc) from exc
            while not tail.is_done:
                page = self._driver.run(tail.next_page())
                yield from tail.events(page)
                pause = tail.pause(page)
                if pause is None or tail.is_done:
                    continue
                if wake is None:
                    time.sleep(pause)
                    continue
                try:
                    for _ in wake.notifies(timeout=tail.longest, stop_after=1):
                        pass
                except psycopg.OperationalError as exc:
                    wake_lost(exc)
                    wake = None
        finally:
            if wake is not None:
                with suppress(psycopg.Error):
                    wake.execute(unlisten(self._context))

    def decode(self, event: StoredEvent) -> Event:
        """What an event of `tail` says: metadata, writes, what was done to a thread; decoded when it is asked.

        Looks something up only for writes that are stored as a difference from the state that they were made on.

        Raises:
            LogCorruptedError: when these do not decode.
            LogBusyError: when the event was erased since it was read.
        """
        return self._driver.run(lambda: decode(self._context, self.serde, event))

    def tail_position(self) -> Cursor:
        """The cursor of now: what is settled is before it. Raises NotSetUpError as `tail`."""
        return self._driver.run(lambda: read_end(self._context.statements))

    def lag(self, after: Cursor | str | None = None) -> Lag:
        """How far a reader with this cursor is behind, and which transaction holds the feed back. Raises as `tail`."""
        cursor = cursor_of(after)
        return self._driver.run(lambda: read_lag(self._context.statements, cursor))

    def notify_appends(self, *, interval: float = 0.2) -> Generator[Cursor, None, None]:
        """Tell who listens (`tail` with `wake`) when more of the log is settled; yields each cursor that was told.

        One process does this for all: one look, and at most one NOTIFY, per interval, and none by those who append.

        Args:
            interval: seconds between two looks.
        """
        return self._notify(Notifying(self._context, interval))

    def _notify(self, notifying: Notifying) -> Generator[Cursor, None, None]:
        while True:
            if (told := self._driver.run(notifying.look)) is not None:
                yield told
            time.sleep(notifying.interval)


class AsyncFeed(AsyncMethods):
    """As `SyncFeed`."""

    def tail(
        self,
        after: Cursor | str | None = None,
        *,
        follow: bool = False,
        poll_interval: float = 1.0,
        thread_ids: Sequence[str] | None = None,
        limit: int | None = None,
        wake: psycopg.AsyncConnection[Any] | None = None,
    ) -> AsyncGenerator[StoredEvent, None]:
        """Every event of the log once. As `EventLogSaver.tail`."""
        tail = Tail(self._context.statements, after, follow, poll_interval, thread_ids, limit)
        return self._tail(tail, waking(wake, psycopg.AsyncConnection))

    async def _tail(self, tail: Tail, wake: psycopg.AsyncConnection[Any] | None) -> AsyncGenerator[StoredEvent, None]:
        try:
            if wake is not None:
                try:
                    await wake.execute(listen(self._context))
                except psycopg.Error as exc:
                    raise translate(exc) from exc
            while not tail.is_done:
                page = await self._run(self._driver.run(tail.next_page()))
                for event in tail.events(page):
                    yield event
                pause = tail.pause(page)
                if pause is None or tail.is_done:
                    continue
                if wake is None:
                    await asyncio.sleep(pause)
                    continue
                try:
                    async for _ in wake.notifies(timeout=tail.longest, stop_after=1):
                        pass
                except psycopg.OperationalError as exc:
                    wake_lost(exc)
                    wake = None
        finally:
            if wake is not None:
                with suppress(psycopg.Error):
                    await wake.execute(unlisten(self._context))

    async def decode(self, event: StoredEvent) -> Event:
        """What an event of `tail` says. As `EventLogSaver.decode`."""
        return await self._run(self._driver.run(lambda: decode(self._context, self.serde, event)))

    async def tail_position(self) -> Cursor:
        """The cursor of now. As `EventLogSaver.tail_position`."""
        return await self._run(self._driver.run(lambda: read_end(self._context.statements)))

    async def lag(self, after: Cursor | str | None = None) -> Lag:
        """How far a reader is behind. As `EventLogSaver.lag`."""
        cursor = cursor_of(after)
        return await self._run(self._driver.run(partial(read_lag, self._context.statements, cursor)))

    def notify_appends(self, *, interval: float = 0.2) -> AsyncGenerator[Cursor, None]:
        """Tell who listens when more of the log is settled. As `EventLogSaver.notify_appends`."""
        return self._notify(Notifying(self._context, interval))

    async def _notify(self, notifying: Notifying) -> AsyncGenerator[Cursor, None]:
        while True:
            if (told := await self._run(self._driver.run(notifying.look))) is not None:
                yield told
            await asyncio.sleep(notifying.interval)
