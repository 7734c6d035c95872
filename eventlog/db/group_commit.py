"""Group commit: appends that arrive while others are in progress share a round trip and a commit.

A call that arrives alone runs at once. While `LEADERS` statements are in progress, further calls wait here without a
connection, regardless of their streams; when one of the statements is done, all waiting calls go together in the next
one. There is no timer. A single waiting call needs no batch: it goes next.

A joint statement appends the calls in their usual case. A call that it declines runs alone, and if the statement fails,
each of its calls runs alone, so that no call gets another's error. If the connection was lost, or none was available,
all calls of the batch get that error: it is unknown what was appended, and a retry checks.

A batch runs in a thread or task of its own: an interrupted or cancelled caller does not affect the others.

One statement cannot serve several nodes of a distributed database, and such a database declines whole batches. When
that happens, the batch asks whether the database is distributed, at most once in `ASK_AGAIN` seconds. If so, each group
of calls (those on one thread) has a queue of its own, and groups run side by side.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from contextvars import Context
from time import monotonic
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg
from typing_extensions import Self

from eventlog.db.connections import size_of
from eventlog.db.errors import is_lost
from eventlog.db.query import BatchableQuery, Query, Rows
from eventlog.errors import EventLogError

__all__ = ["AsyncGroupCommit", "GroupCommit"]

#: This many statements run at a time before calls wait for each other.
LEADERS = 1

#: The most calls in a batch; no call is added after so many bytes.
MOST_CALLS = 256
MOST_BYTES = 4 * 1024 * 1024

#: Calls wait at most this many seconds for a statement in progress. It may itself wait for a lock on a stream that the
#: others do not need; or the thread that should wake the next call was interrupted (Ctrl-C comes between any two
#: steps).
PATIENCE = 0.1

ASK_AGAIN = 60.0

#: Tells a call to go next, in place of the finished statement.
TURN: Rows = []

#: Receives the rows of a call, `TURN`, None if it is to run alone, or the error to raise.
Answer = TypeVar("Answer", "Future[Rows | None]", "asyncio.Future[Rows | None]")

Batch: TypeAlias = "list[tuple[BatchableQuery, Answer]]"


class _Queue(Generic[Answer]):
    """The waiting calls, and the number of statements in progress.

    Args:
        group: of all its calls, in a distributed database.
    """

    def __init__(self, execute: Any, group: str | None = None) -> None:
        self._execute = execute
        self._group = group
        self._waiting: deque[tuple[BatchableQuery, Answer]] = deque()
        self._under_way = 0
        self._lock = threading.Lock()
        self._is_distributed = False
        self._asked_at = -ASK_AGAIN
        #: The queues of the groups that have calls, with how many.
        self._groups: dict[str, tuple[Self, int]] = {}

    @contextmanager
    def _queue_of(self, key: str) -> Iterator[Self]:
        """The queue of a group, while one of its calls runs."""
        with self._lock:
            queue, calls = self._groups.get(key) or (type(self)(self._execute, key), 0)
            self._groups[key] = queue, calls + 1
        try:
            yield queue
        finally:
            with self._lock:
                _, calls = self._groups[key]
                if calls == 1:
                    del self._groups[key]
                else:
                    self._groups[key] = queue, calls - 1

    def _question(self, batch: Batch[Answer], outcome: Rows) -> Query | None:
        """What to ask after a batch: nothing, unless all its calls were declined."""
        group = batch[0][0].group
        if outcome or self._group is not None or group is None or monotonic() - self._asked_at < ASK_AGAIN:
            return None
        self._asked_at = monotonic()
        return Query(group.is_distributed)

    def _joint(self, batch: Batch[Answer]) -> Query:
        queries = [query for query, _ in batch]
        return queries[0].join(queries, self._group)

    def _finish(self) -> Batch[Answer]:
        """A statement is done: returns the calls for the next batch. A single waiting call goes next by itself."""
        if len(self._waiting) == 1 and self._is_wanted(answer := self._waiting[0][1]):
            answer.set_result(TURN)
            self._waiting.popleft()
            return []
        batch = self._take()
        if not batch:
            self._under_way = max(self._under_way - 1, 0)
        return batch

    def _take(self) -> Batch[Answer]:
        """Take the waiting calls, as many as a batch may have."""
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
        """Whether the call still waits. If not, it stays to the end of its batch."""
        return not answer.done()

    @staticmethod
    def _has_turn(answer: Answer) -> bool:
        return answer.done() and not answer.cancelled() and answer.exception() is None and answer.result() is TURN


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
            answer.set_exception(_copied(error) if isinstance(error, psycopg.Error) else error)


def _copied(error: psycopg.Error) -> psycopg.Error:
    """An exception for each call: one exception would collect the traces of all calls that raise it."""
    try:
        return type(error)(*error.args)
    except TypeError:
        return error  # A class of the user's pool, with other arguments: no call may wait forever for its answer.


class GroupCommit(_Queue["Future[Rows | None]"]):
    """For threads.

    Args:
        execute: runs a query in a transaction of its own.
    """

    _execute: Callable[[Query], Rows]

    def __init__(self, execute: Callable[[Query], Rows], group: str | None = None) -> None:
        super().__init__(execute, group)

    def run(self, query: BatchableQuery) -> Rows:
        """Run a query, alone or in a batch."""
        if self._is_distributed and query.group is not None:
            with self._queue_of(query.group.key) as queue:
                return queue.run(query)
        answer: Future[Rows | None] | None = None
        with self._lock:
            if self._under_way < LEADERS:
                self._under_way += 1
            else:
                answer = Future()
                self._waiting.append((query, answer))
        if answer is not None:
            rows = self._wait(answer)
            if rows is None and self._is_distributed and query.group is not None:
                return self.run(query)
            if rows is not TURN:
                return self._execute(query) if rows is None else rows
        try:
            return self._execute(query)
        finally:
            with self._lock:
                is_over = not self._waiting
                if is_over:
                    self._under_way = max(self._under_way - 1, 0)
            if not is_over:
                self._pass_on()

    def _pass_on(self) -> None:
        """A statement is done and calls wait: a batch takes a thread, a single call none."""
        with self._lock:
            is_batch = len(self._waiting) > 1
            if not is_batch:
                self._finish()
        if is_batch:
            self._start(self._finish)

    def _is_wanted(self, answer: Future[Rows | None]) -> bool:
        # An interrupt may have come after the earlier check.
        return not answer.done() and (answer.running() or answer.set_running_or_notify_cancel())

    def _wait(self, answer: Future[Rows | None]) -> Rows | None:
        try:
            while True:
                # Before the timed wait: an error of the batch may itself be a timeout.
                if answer.done():
                    return answer.result()
                with suppress(FutureTimeoutError):
                    return answer.result(PATIENCE)
                # The statement is not added to the count. So a count that an interrupt left too high recovers.
                if self._waiting:
                    self._start(self._take)
        except BaseException:
            with self._lock:
                answer.cancel()
                has_turn = self._has_turn(answer)
            if has_turn:
                self._pass_on()
            raise

    def _start(self, choose: Callable[[], Batch[Future[Rows | None]]]) -> None:
        # The thread itself takes the calls: they stay queued if it does not start.
        try:
            threading.Thread(target=self._lead, args=(choose,), name="eventlog-group-commit").start()
        except RuntimeError:  # The process has no more threads, or the interpreter ends.
            self._lead(choose)

    def _lead(self, choose: Callable[[], Batch[Future[Rows | None]]]) -> None:
        with self._lock:
            batch = choose()
        while batch:
            try:
                outcome: Rows | BaseException = (rows := self._execute(self._joint(batch)))
                if (question := self._question(batch, rows)) is not None:
                    self._is_distributed = bool(self._execute(question)[0][0])
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

    _execute: Callable[[Query], Awaitable[Rows]]

    def __init__(self, execute: Callable[[Query], Awaitable[Rows]], group: str | None = None) -> None:
        super().__init__(execute, group)
        self._leaders: set[asyncio.Task[None]] = set()
        self._impatient: asyncio.TimerHandle | None = None

    async def run(self, query: BatchableQuery) -> Rows:
        """Run a query, alone or in a batch."""
        if self._is_distributed and query.group is not None:
            with self._queue_of(query.group.key) as queue:
                return await queue.run(query)
        if self._under_way < LEADERS:
            self._under_way += 1
        else:
            rows = await self._wait(query)
            if rows is None and self._is_distributed and query.group is not None:
                return await self.run(query)
            if rows is not TURN:
                return await self._execute(query) if rows is None else rows
        try:
            return await self._execute(query)
        finally:
            self._start(self._finish())

    async def _wait(self, query: BatchableQuery) -> Rows | None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rows | None] = loop.create_future()
        self._waiting.append((query, answer))
        if self._impatient is None:
            self._impatient = loop.call_later(PATIENCE, self._hurry)
        try:
            return await answer
        except asyncio.CancelledError:
            if self._has_turn(answer):
                self._start(self._finish())
            raise

    def _hurry(self) -> None:
        self._impatient = None
        self._start(self._take())

    def _start(self, batch: Batch[asyncio.Future[Rows | None]]) -> None:
        if batch:
            # In an empty context, like a new thread: the batch must not inherit one caller's deadline, log fields and
            # span.
            leader = Context().run(asyncio.get_running_loop().create_task, self._lead(batch))
            self._leaders.add(leader)
            leader.add_done_callback(self._leaders.discard)

    async def _lead(self, batch: Batch[asyncio.Future[Rows | None]]) -> None:
        while batch:
            try:
                outcome: Rows | BaseException = (rows := await self._execute(self._joint(batch)))
                if (question := self._question(batch, rows)) is not None:
                    self._is_distributed = bool((await self._execute(question))[0][0])
            except asyncio.CancelledError:  # The event loop ends.
                _settle(batch, psycopg.OperationalError("the event loop has ended"))
                raise
            except BaseException as exc:  # Its callers raise it.
                outcome = exc
            _settle(batch, outcome)
            batch = self._finish()
