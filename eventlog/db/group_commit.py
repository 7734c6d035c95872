"""Appends to one stream that come at the same time, made together.

A stream takes one append after the other: each waits for the row of `streams` until the one before is committed. So
while one is under way the others wait here instead, without a connection, and all that have gathered when it is done
are appended by one statement: of a hundred parallel tasks' writes the first goes alone, and most of the others in one
transaction. Whoever comes alone does not wait for anybody.

Whatever a joint statement cannot do, or fails at, each does for itself: none has another's error. But where there was
no connection, or it was lost on the way, all hear of that: nobody knows what was done, and whoever tries again looks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent import futures
from concurrent.futures import Future
from typing import TypeAlias, TypeVar

import psycopg

from eventlog.db.connections import size_of
from eventlog.db.errors import is_lost
from eventlog.db.query import BatchableQuery, Query, Rows
from eventlog.errors import EventLogError

__all__ = ["AsyncGroupCommit", "GroupCommit"]

#: At most so many queries in a statement, and of them no more after so many bytes.
MOST_QUERIES = 256
MOST_BYTES = 4 * 1024 * 1024

#: A thread waits for its turn no longer than this, in seconds: whoever has it may be gone without passing it on, as an
#: interrupt (Ctrl-C, a worker's time limit) comes between any two steps.
PATIENCE = 30.0

#: What a joint statement answers when it has done what its queries say.
DONE = [(True,)]

F = TypeVar("F", bound="Future[Rows | None] | asyncio.Future[Rows | None]")

#: A query that waits for its turn, and what it is answered in a joint statement; None: it is to go alone.
Waiting: TypeAlias = tuple[BatchableQuery, F]
Queue: TypeAlias = "list[Waiting[Future[Rows | None]]]"
AsyncQueue: TypeAlias = "list[Waiting[asyncio.Future[Rows | None]]]"


def _take(queue: list[Waiting[F]]) -> list[Waiting[F]]:
    """The first that may go into one statement, off their queue; those that were interrupted or cancelled leave it."""
    queue[:] = [each for each in queue if not each[1].done()]
    group: list[Waiting[F]] = []
    total = 0
    for each in queue[:MOST_QUERIES]:
        total += size_of((each[0].params or (),))
        if group and total > MOST_BYTES:
            break
        group.append(each)
    del queue[: len(group)]
    return group


def _joint(group: Sequence[Waiting[F]]) -> Query:
    return group[0][0].join([query.params or () for query, _ in group])


def _lost(exc: psycopg.Error | EventLogError) -> psycopg.Error | None:
    """The error of all, where nobody can say what became of their statement; else each tries by itself."""
    return exc if isinstance(exc, psycopg.Error) and is_lost(exc) else None


def _answer(group: Sequence[Waiting[F]], is_done: bool, lost: psycopg.Error | None) -> None:
    for query, future in group:
        if future.done():
            continue
        if lost is None:
            future.set_result(query.answer if is_done else None)
        else:
            # Each raises one of its own: an exception collects the traces of all who raise it.
            future.set_exception(type(lost)(*lost.args))


class GroupCommit:
    """For threads.

    Args:
        execute: runs a query in a transaction of its own.
    """

    def __init__(self, execute: Callable[[Query], Rows]) -> None:
        self._execute = execute
        self._lock = threading.Lock()
        self._queues: dict[Hashable, Queue] = {}
        """A queue for each stream with an append under way."""

    def run(self, query: BatchableQuery) -> Rows:
        """Run a query, or have it run together with others."""
        future: Future[Rows | None] | None = None
        with self._lock:
            queue = self._queues.get(query.key)
            if queue is None:
                queue = self._queues[query.key] = []
            else:
                future = Future()
                queue.append((query, future))
        if future is None:
            try:
                return self._execute(query)
            finally:
                self._call_next(query.key, queue)
        try:
            rows = future.result(PATIENCE)
        except futures.TimeoutError:
            if future.cancel():
                # Nobody came: it goes alone, and the next begin a queue of their own.
                rows = None
                with self._lock:
                    if self._queues.get(query.key) is queue:
                        del self._queues[query.key]
            else:
                # The joint statement that it is in may be late: alone it would be appended twice.
                rows = future.result()
        finally:
            future.cancel()  # Nobody waits for one that was interrupted.
        return self._execute(query) if rows is None else rows

    def _lead(self, key: Hashable, queue: Queue, group: Queue) -> None:
        group = [each for each in group if each[1].set_running_or_notify_cancel()]
        is_done, lost = False, None
        try:
            is_done = bool(group) and self._execute(_joint(group)) == DONE
        except (psycopg.Error, EventLogError) as exc:
            lost = _lost(exc)
        finally:
            try:
                self._call_next(key, queue)
            finally:
                _answer(group, is_done, lost)

    def _call_next(self, key: Hashable, queue: Queue) -> None:
        with self._lock:
            if self._queues.get(key) is not queue:
                return
            group = _take(queue)
            if not group:
                del self._queues[key]
                return
        try:
            # In a thread of its own: whoever is interrupted takes nobody along.
            threading.Thread(target=self._lead, args=(key, queue, group), name="eventlog").start()
        except RuntimeError:
            # The process may have no more threads: each goes alone.
            with self._lock:
                del self._queues[key]
            _answer([*group, *queue], False, None)


class AsyncGroupCommit:
    """For the tasks of an event loop.

    Args:
        execute: runs a query in a transaction of its own.
    """

    def __init__(self, execute: Callable[[Query], Awaitable[Rows]]) -> None:
        self._execute = execute
        self._queues: dict[Hashable, AsyncQueue] = {}
        self._leaders: set[asyncio.Task[None]] = set()

    async def run(self, query: BatchableQuery) -> Rows:
        """Run a query, or have it run together with others."""
        queue = self._queues.get(query.key)
        if queue is None:
            self._queues[query.key] = []
            try:
                return await self._execute(query)
            finally:
                self._call_next(query.key)
        future: asyncio.Future[Rows | None] = asyncio.get_running_loop().create_future()
        queue.append((query, future))
        rows = await future
        return await self._execute(query) if rows is None else rows

    async def _lead(self, key: Hashable, group: AsyncQueue) -> None:
        is_done, lost = False, None
        try:
            is_done = await self._execute(_joint(group)) == DONE
        except (psycopg.Error, EventLogError) as exc:
            lost = _lost(exc)
        finally:
            _answer(group, is_done, lost)
            self._call_next(key)

    def _call_next(self, key: Hashable) -> None:
        group = _take(self._queues[key])
        if not group:
            del self._queues[key]
            return
        # In a task of its own: whoever is cancelled takes nobody along.
        leader = asyncio.get_running_loop().create_task(self._lead(key, group))
        self._leaders.add(leader)
        leader.add_done_callback(self._leaders.discard)
