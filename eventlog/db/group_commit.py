"""Group commit: appends that come while others are under way share a round trip and a commit.

A call that comes alone goes at once. While as many statements are under way as `LEADERS`, further calls wait here,
without a connection, whatever streams they append to; when one of the statements is done, all that wait go together in
the next one. Nothing waits for a timer.

A joint statement appends what it can without looking into anything; what it declines runs alone, and so does each of
its calls when it fails, so that no call has another's error. Where the connection was lost, or there was none, all
calls of the batch hear of it: it is unknown what was appended, and a retry looks.

A batch has a thread or a task of its own: a caller that is interrupted or cancelled takes no other along.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg

from eventlog.db.connections import size_of
from eventlog.db.errors import is_lost
from eventlog.db.query import BatchableQuery, Query, Rows
from eventlog.errors import EventLogError

__all__ = ["AsyncGroupCommit", "GroupCommit"]

#: So many statements at a time before calls wait for each other.
LEADERS = 1

#: At most so many calls in a batch, and of them no more after so many bytes.
MOST_CALLS = 256
MOST_BYTES = 4 * 1024 * 1024

#: Calls wait no longer than this, in seconds, for a statement under way: it may itself wait, for a lock on one stream
#: that is nothing to the others; or the thread that should have called the next was interrupted (Ctrl-C comes between
#: any two steps).
PATIENCE = 0.1

#: Receives the rows of a call, None where it is to run alone, or the error that it must hear of.
Answer = TypeVar("Answer", "Future[Rows | None]", "asyncio.Future[Rows | None]")

Batch: TypeAlias = "list[tuple[BatchableQuery, Answer]]"


class _Queue(Generic[Answer]):
    """The calls that wait, and how many statements are under way."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[BatchableQuery, Answer]] = deque()
        self._under_way = 0

    def _finish(self) -> Batch[Answer]:
        """A statement is done: the calls that go together in the next one, if any wait."""
        batch = self._take()
        if not batch:
            self._under_way = max(self._under_way - 1, 0)
        return batch

    def _take(self) -> Batch[Answer]:
        """The calls that wait, as many as may go together."""
        batch: Batch[Answer] = []
        total = 0
        while self._waiting and len(batch) < MOST_CALLS:
            query, answer = self._waiting[0]
            total += size_of((query.params or (),))
            if batch and total > MOST_BYTES:
                break
            self._waiting.popleft()
            if self._is_wanted(answer):
                batch.append((query, answer))
        return batch

    def _is_wanted(self, answer: Answer) -> bool:
        """Whether the call still waits, which it then does to the end of its batch."""
        return not answer.done()


def _joint(batch: Batch[Any]) -> Query:
    queries = [query for query, _ in batch]
    return queries[0].join(queries)


def _settle(batch: Batch[Any], outcome: Rows | BaseException) -> None:
    """Give each call of a batch its answer."""
    rows: dict[int, Rows] = {}
    error: BaseException | None = None
    if not isinstance(outcome, BaseException):
        rows = {number: [tuple(row)] for number, *row in outcome}
    elif not isinstance(outcome, EventLogError) and (not isinstance(outcome, psycopg.Error) or is_lost(outcome)):
        error = outcome
    for number, (_, answer) in enumerate(batch, 1):
        if answer.done():
            continue
        if error is None:
            answer.set_result(rows.get(number))
        else:
            # Each raises one of its own: an exception collects the traces of all that raise it.
            answer.set_exception(type(error)(*error.args) if isinstance(error, psycopg.Error) else error)


class GroupCommit(_Queue["Future[Rows | None]"]):
    """For threads.

    Args:
        execute: runs a query in a transaction of its own.
    """

    def __init__(self, execute: Callable[[Query], Rows]) -> None:
        super().__init__()
        self._execute = execute
        self._lock = threading.Lock()

    def run(self, query: BatchableQuery) -> Rows:
        """Run a query, or have it run together with others."""
        answer: Future[Rows | None] | None = None
        with self._lock:
            if self._under_way < LEADERS:
                self._under_way += 1
            else:
                answer = Future()
                self._waiting.append((query, answer))
        if answer is None:
            try:
                return self._execute(query)
            finally:
                with self._lock:
                    is_over = not self._waiting
                    if is_over:
                        self._under_way = max(self._under_way - 1, 0)
                if not is_over:
                    self._start(self._finish)
        rows = self._wait(answer)
        return self._execute(query) if rows is None else rows

    def _is_wanted(self, answer: Future[Rows | None]) -> bool:
        return answer.set_running_or_notify_cancel()

    def _wait(self, answer: Future[Rows | None]) -> Rows | None:
        try:
            while True:
                with suppress(FutureTimeoutError):
                    return answer.result(PATIENCE)
                # The statement is not added to the count of those under way. So a count that an interrupt has left too
                # high comes right.
                if self._waiting:
                    self._start(self._take)
        finally:
            answer.cancel()

    def _start(self, choose: Callable[[], Batch[Future[Rows | None]]]) -> None:
        # The thread itself takes the calls: they stay queued when it does not start.
        try:
            threading.Thread(target=self._lead, args=(choose,), name="eventlog-group-commit").start()
        except RuntimeError:  # No more threads, or the interpreter ends.
            self._lead(choose)

    def _lead(self, choose: Callable[[], Batch[Future[Rows | None]]]) -> None:
        with self._lock:
            batch = choose()
        while batch:
            try:
                outcome: Rows | BaseException = self._execute(_joint(batch))
            except BaseException as exc:  # Its callers raise it.
                outcome = exc
            with self._lock:
                _settle(batch, outcome)
                batch = self._finish()


class AsyncGroupCommit(_Queue["asyncio.Future[Rows | None]"]):
    """For the tasks of an event loop.

    Args:
        execute: runs a query in a transaction of its own.
    """

    def __init__(self, execute: Callable[[Query], Awaitable[Rows]]) -> None:
        super().__init__()
        self._execute = execute
        self._leaders: set[asyncio.Task[None]] = set()
        self._impatient: asyncio.TimerHandle | None = None

    async def run(self, query: BatchableQuery) -> Rows:
        """Run a query, or have it run together with others."""
        if self._under_way < LEADERS:
            self._under_way += 1
            try:
                return await self._execute(query)
            finally:
                self._start(self._finish())
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rows | None] = loop.create_future()
        self._waiting.append((query, answer))
        if self._impatient is None:
            self._impatient = loop.call_later(PATIENCE, self._hurry)
        rows = await answer
        return await self._execute(query) if rows is None else rows

    def _hurry(self) -> None:
        self._impatient = None
        self._start(self._take())

    def _start(self, batch: Batch[asyncio.Future[Rows | None]]) -> None:
        if batch:
            leader = asyncio.get_running_loop().create_task(self._lead(batch))
            self._leaders.add(leader)
            leader.add_done_callback(self._leaders.discard)

    async def _lead(self, batch: Batch[asyncio.Future[Rows | None]]) -> None:
        while batch:
            try:
                outcome: Rows | BaseException = await self._execute(_joint(batch))
            except asyncio.CancelledError:  # The event loop ends.
                _settle(batch, psycopg.OperationalError("the event loop has ended"))
                raise
            except BaseException as exc:  # Its callers raise it.
                outcome = exc
            _settle(batch, outcome)
            batch = self._finish()
