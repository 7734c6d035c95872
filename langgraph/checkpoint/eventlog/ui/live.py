"""Live updates of open pages: server-sent events, from one query of the log per second for all pages of the process.

    event: changed    data: {"events": 3}             something was appended to the thread, or erased from it
    event: away       data: {"message": "…"}          the database cannot be reached; `changed` follows when it is back

Each event's id is the head of the thread. A browser that reconnects sends it, and misses no change.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from eventlog.errors import EventLogError
from langgraph.checkpoint.eventlog._arguments import seconds_of
from langgraph.checkpoint.eventlog.viewing.following import Head, heads
from langgraph.checkpoint.eventlog.viewing.reader import Reader

__all__ = ["EventStream", "Follower"]

#: Open pages of one process.
MOST_PAGES = 500

#: Seconds after which a comment shows that the connection is alive.
COMMENT_EVERY = 15.0

#: Seconds after which a stream ends and the browser requests another one, so that a server that waits for its requests
#: can shut down.
LONGEST_STREAM = 60.0

#: Seconds between looks while the database is away.
AWAY_INTERVAL = 2.0

#: Seconds without an answer after which pages are told that the database is away.
PATIENCE = 3.0


class _Subscription:
    """One open page: the head that was sent last, and the news to send."""

    def __init__(self, thread_id: str, head: Head | None) -> None:
        self.thread_id = thread_id
        self.told = head
        self.current = head
        self.away: str | None = None
        self.away_is_told = False
        self.is_back = False
        self.news = asyncio.Event()

    def set_head(self, head: Head | None) -> None:
        """Set the thread's head. The first one is the starting point, if the page did not name one."""
        if self.told is None:
            self.told = head
        if self.away is not None:
            self.away, self.is_back = None, True
        self.current = head
        if self.is_back or head != self.told:
            self.news.set()

    def set_away(self, message: str) -> None:
        """The database cannot be reached."""
        if self.away is None:
            self.away, self.away_is_told, self.is_back = message, False, False
            self.news.set()

    def take(self) -> str | None:
        """The event to send, if there is one."""
        self.news.clear()
        if self.away is not None:
            message, self.away_is_told = None if self.away_is_told else self.away, True
            return None if message is None else _event("away", {"message": message}, self.told)
        if not self.is_back and self.current == self.told:
            return None
        before, self.told, self.is_back = self.told, self.current, False
        count = max(0, (self.told.seq if self.told else 0) - (before.seq if before else 0))
        return _event("changed", {"events": count}, self.told)


def _event(name: str, data: dict[str, Any], head: Head | None) -> str:
    id_ = "" if head is None else f"id: {head}\n"
    return f"{id_}event: {name}\ndata: {json.dumps(data)}\n\n"


class Follower:
    """Queries the log for all open pages. It runs while there are any.

    Args:
        interval: seconds between two queries.
    """

    def __init__(self, reader: Reader, interval: float) -> None:
        self._reader = reader
        self._interval = seconds_of(interval, "poll_interval")
        self._pages: set[_Subscription] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return len(self._pages)

    @property
    def is_full(self) -> bool:
        """Whether no further page can be followed."""
        return len(self._pages) >= MOST_PAGES

    def close(self) -> None:
        """End all pages' events within a second. A signal handler may call it."""
        self._is_closed = True

    async def follow(self, thread_id: str, head: Head | None) -> AsyncIterator[str]:
        """The events of a page, as server-sent events have them, until the page is closed or a minute is over."""
        page = _Subscription(thread_id, head)
        self._pages.add(page)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield ": following\nretry: 1000\n\n"
            quiet = 0.0
            until = time.monotonic() + LONGEST_STREAM
            while not self._is_closed and time.monotonic() < until:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(page.news.wait(), 1.0)
                event = page.take()
                quiet = 0.0 if event else quiet + 1.0
                if event:
                    yield event
                    # At most one event per second: changes in between are combined.
                    await asyncio.sleep(self._interval)
                elif quiet >= COMMENT_EVERY:
                    quiet = 0.0
                    yield ": still here\n\n"
        finally:
            self._pages.discard(page)

    async def _run(self) -> None:
        while self._pages and not self._is_closed:
            pages = list(self._pages)
            pause = self._interval
            look = asyncio.ensure_future(heads(self._reader, sorted({page.thread_id for page in pages})))
            # Retrying a connection may take a while: tell the pages meanwhile.
            done, _ = await asyncio.wait([look], timeout=PATIENCE)
            if not done:
                _tell_away(pages, "The database does not answer.")
            try:
                found = await look
            except EventLogError as exc:
                pause = max(pause, AWAY_INTERVAL)
                _tell_away(pages, str(exc))
            else:
                for page in pages:
                    page.set_head(found.get(page.thread_id))
            await asyncio.sleep(pause)


def _tell_away(pages: list[_Subscription], message: str) -> None:
    for page in pages:
        page.set_away(message)


class EventStream(Response):
    """Server-sent events. It ends when the client goes, or the events do."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str]) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events: Any = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with anyio.create_task_group() as group:

            async def wait_for_end() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(wait_for_end)
            async with aclosing(self._events) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()
