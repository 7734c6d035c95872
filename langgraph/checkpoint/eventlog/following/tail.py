"""Following the feed: where one `tail` call is, what it reads next, how long it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from eventlog.db.async_ import AsyncDriver
from eventlog.db.errors import translate
from eventlog.db.query import MakeOp, Op, Query
from eventlog.db.statements import Statements
from eventlog.db.sync import Driver
from eventlog.errors import InvalidInputError
from eventlog.events import Cursor, StoredEvent
from eventlog.feed import FeedPage, channel_of, cursor_of, read_end, read_feed
from eventlog.logger import logger
from langgraph.checkpoint.eventlog._arguments import count_of, ids_of, seconds_of
from langgraph.checkpoint.eventlog._context import Context

__all__ = ["Notifying", "Tail", "notify", "notify_async", "read_tail", "read_tail_async", "waking"]

C = TypeVar("C", bound="psycopg.Connection[Any] | psycopg.AsyncConnection[Any]")

#: The first pause after an event, in seconds. Each one that brings nothing is followed by one twice as long.
SHORTEST_PAUSE = 0.05


class Tail:
    """One call of `tail`. Validates its arguments (InvalidInputError).

    Args:
        statements: of the schema.
        after: a cursor, its text, or None.
        follow: whether to wait for more at the end.
        poll_interval: the longest pause, in seconds.
        thread_ids: only events of these threads.
        limit: at most so many events.
    """

    def __init__(
        self, statements: Statements, after: Any, follow: bool, poll_interval: Any, thread_ids: Any, limit: Any
    ) -> None:
        self._statements = statements
        self._channel = sql.Identifier(channel_of(statements))
        self._cursor = cursor_of(after)
        self._follow = follow
        self._longest = seconds_of(poll_interval, "poll_interval")
        self._threads = None if thread_ids is None else ids_of(thread_ids, "thread_ids")
        if self._threads == []:
            raise InvalidInputError("thread_ids names no thread: give at least one, or None for all")
        self._left = None if limit is None else count_of(limit, "limit")
        self._pause = min(SHORTEST_PAUSE, self._longest)
        self.is_done = False

    def next_page(self) -> MakeOp[FeedPage]:
        """What to run next."""
        return partial(read_feed, self._statements, self._cursor, threads=self._threads)

    def events(self, page: FeedPage) -> Iterator[StoredEvent]:
        """The events of a page. When there are no more of them, `is_done` or `pause` say how to go on."""
        self._cursor = page.cursor
        yield from page.events[: self._left]
        if self._left is not None:
            self._left -= len(page.events[: self._left])
        self.is_done = self._left == 0 or (page.is_end and not self._follow)

    def pause(self, page: FeedPage) -> float | None:
        """How long to wait before the next page, in seconds; None: not at all.

        Seldom more than a few times what passed since the last event, and never more than was asked for: who waits
        for a busy log learns of an event soon, and who waits for a quiet one asks seldom.
        """
        if page.events:
            self._pause = min(SHORTEST_PAUSE, self._longest)
        if not page.is_end:
            return None
        pause, self._pause = self._pause, min(self._pause * 2, self._longest)
        return pause

    @property
    def listen(self) -> bytes:
        """The statement that begins to listen."""
        return sql.SQL("listen {}").format(self._channel).as_bytes(None)

    @property
    def unlisten(self) -> bytes:
        """The statement that ends it."""
        return sql.SQL("unlisten {}").format(self._channel).as_bytes(None)

    @property
    def longest(self) -> float:
        """How long to wait at most where something will wake it up, in seconds."""
        return self._longest


class Notifying:
    """One call of `notify_appends`: tells those who listen that more of the log is settled. Validates its arguments."""

    def __init__(self, context: Context, interval: Any) -> None:
        self._statements = context.statements
        self._told: Any = None
        self.interval = seconds_of(interval, "interval")

    def look(self) -> Op[Any]:
        """Look, and tell if there is something new; returns the cursor that was told, or None."""
        end = yield from read_end(self._statements)
        if end == self._told:
            return None
        yield Query(b"select pg_notify(%s, %s)", (channel_of(self._statements), str(end)))
        self._told = end
        return end


def waking(wake: Any, kind: type[C]) -> C | None:
    """The connection that `tail` listens on. Raises InvalidInputError."""
    if wake is not None and not isinstance(wake, kind):
        raise InvalidInputError(f"wake must be a psycopg {kind.__name__} of its own, not {type(wake).__name__}")
    if wake is not None and not wake.autocommit:
        raise InvalidInputError(
            "wake must be a connection in autocommit mode: PostgreSQL delivers no notifications inside a transaction"
        )
    return wake


def _wake_lost(exc: psycopg.Error) -> None:
    """A connection to listen on is a convenience: without it, the tail polls."""
    logger.warning("eventlog.wake_lost", error=str(exc).strip())


def read_tail(driver: Driver, tail: Tail, wake: psycopg.Connection[Any] | None) -> Generator[StoredEvent, None, None]:
    """The events of a `tail` call, with its pauses."""
    try:
        if wake is not None:
            try:
                wake.execute(tail.listen)
            except psycopg.Error as exc:
                raise translate(exc) from exc
        while not tail.is_done:
            page = driver.run(tail.next_page())
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
                _wake_lost(exc)
                wake = None
    finally:
        if wake is not None:
            with suppress(psycopg.Error):
                wake.execute(tail.unlisten)


async def read_tail_async(
    driver: AsyncDriver, tail: Tail, wake: psycopg.AsyncConnection[Any] | None
) -> AsyncGenerator[StoredEvent, None]:
    """As `read_tail`."""
    try:
        if wake is not None:
            try:
                await wake.execute(tail.listen)
            except psycopg.Error as exc:
                raise translate(exc) from exc
        while not tail.is_done:
            page = await driver.run(tail.next_page())
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
                _wake_lost(exc)
                wake = None
    finally:
        if wake is not None:
            with suppress(psycopg.Error):
                await wake.execute(tail.unlisten)


def notify(driver: Driver, notifying: Notifying) -> Generator[Cursor, None, None]:
    """The cursors that a `notify_appends` call told, with its pauses."""
    while True:
        if (told := driver.run(notifying.look)) is not None:
            yield told
        time.sleep(notifying.interval)


async def notify_async(driver: AsyncDriver, notifying: Notifying) -> AsyncGenerator[Cursor, None]:
    """As `notify`."""
    while True:
        if (told := await driver.run(notifying.look)) is not None:
            yield told
        await asyncio.sleep(notifying.interval)
