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
from dataclasses import dataclass, field

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

#: What those are told whose leader came to a sudden end.
INTERRUPTED = "the thread that appended for this one was interrupted"


@dataclass(slots=True, eq=False)
class _Waiting:
    """A query that waits for its turn."""

    query: BatchableQuery
    called: threading.Event = field(default_factory=threading.Event)
    rows: Rows | None = None
    """What it was answered in a joint statement."""
    lost: psycopg.Error | None = None
    """That the joint statement was lost on its way, or had none to go."""
    leads: list[_Waiting] = field(default_factory=list)
    """Those for whom it is to run the joint statement, itself among them."""
    is_taken: bool = False
    """Whether it is in a joint statement that is under way."""
    is_gone: bool = False
    """Whether it has gone alone instead."""


def _affordable(queries: Sequence[BatchableQuery]) -> int:
    """How many of the first may go into one statement: at least one."""
    total = 0
    for number, query in enumerate(queries[:MOST_QUERIES]):
        total += size_of((query.params or (),))
        if number and total > MOST_BYTES:
            return number
    return min(len(queries), MOST_QUERIES)


def _joint(queries: Sequence[BatchableQuery]) -> Query:
    return queries[0].join([query.params or () for query in queries])


def _is_unknown(exc: BaseException) -> bool:
    """Whether nobody can say what became of a statement that ended so."""
    return is_lost(exc) if isinstance(exc, psycopg.Error) else not isinstance(exc, EventLogError)


def _same(exc: psycopg.Error) -> psycopg.Error:
    """Each raises one of its own: an exception collects the traces of all who raise it."""
    return type(exc)(*exc.args)


class GroupCommit:
    """For threads.

    Args:
        execute: runs a query in a transaction of its own.
    """

    def __init__(self, execute: Callable[[Query], Rows]) -> None:
        self._execute = execute
        self._lock = threading.Lock()
        self._queues: dict[Hashable, list[_Waiting]] = {}
        """A queue for each stream with an append under way."""

    def run(self, query: BatchableQuery) -> Rows:
        """Run a query, or have it run together with others."""
        waiting = None
        with self._lock:
            queue = self._queues.get(query.key)
            if queue is None:
                queue = self._queues[query.key] = []
            else:
                waiting = _Waiting(query)
                queue.append(waiting)
        if waiting is None:
            try:
                return self._execute(query)
            finally:
                self._call_next(query.key, queue)
        try:
            if not waiting.called.wait(PATIENCE) and not self._give_up(waiting, queue):
                waiting.called.wait()
        except BaseException:
            self._leave(waiting, queue)
            raise
        if waiting.leads:
            try:
                return self._lead(waiting)
            finally:
                self._call_next(query.key, queue)
        if waiting.lost is not None:
            raise _same(waiting.lost)
        return self._execute(query) if waiting.rows is None else waiting.rows

    def _lead(self, leader: _Waiting) -> Rows:
        with self._lock:
            group = [each for each in leader.leads if not each.is_gone]
            for each in group:
                each.is_taken = True
        if len(group) == 1:
            return self._execute(leader.query)
        try:
            if rows := self._execute(_joint([each.query for each in group])):
                for each in group:
                    each.rows = rows
        except BaseException as exc:
            # Otherwise each tries by itself, and has its own error.
            if _is_unknown(exc):
                for each in group[1:]:
                    each.lost = exc if isinstance(exc, psycopg.Error) else psycopg.OperationalError(INTERRUPTED)
                raise
        finally:
            for each in group[1:]:
                each.called.set()
        return self._execute(leader.query) if leader.rows is None else leader.rows

    def _call_next(self, key: Hashable, queue: list[_Waiting]) -> None:
        with self._lock:
            if self._queues.get(key) is not queue:
                return
            group = queue[: _affordable([each.query for each in queue])]
            del queue[: len(group)]
            if not group:
                del self._queues[key]
                return
            group[0].leads = group
        group[0].called.set()

    def _give_up(self, waiting: _Waiting, queue: list[_Waiting]) -> bool:
        """Nobody came: all that wait go alone, and the next begin a queue of their own.

        Returns False where it may not go: it would be appended twice, as the joint statement that it is in may be late.
        """
        with self._lock:
            if waiting.is_taken:
                return False
            waiting.is_gone = not waiting.leads
            if self._queues.get(waiting.query.key) is queue:
                del self._queues[waiting.query.key]
            for each in queue:
                each.called.set()
            return True

    def _leave(self, waiting: _Waiting, queue: list[_Waiting]) -> None:
        """Whoever was interrupted while it waited: the others must not wait for it."""
        with self._lock:
            if waiting in queue:
                queue.remove(waiting)
                return
        if waiting.leads:
            for each in waiting.leads[1:]:
                each.called.set()
            self._call_next(waiting.query.key, queue)


class AsyncGroupCommit:
    """For the tasks of an event loop.

    Args:
        execute: runs a query in a transaction of its own.
    """

    def __init__(self, execute: Callable[[Query], Awaitable[Rows]]) -> None:
        self._execute = execute
        self._queues: dict[Hashable, list[tuple[BatchableQuery, asyncio.Future[Rows | None]]]] = {}
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

    async def _lead(self, key: Hashable, group: list[tuple[BatchableQuery, asyncio.Future[Rows | None]]]) -> None:
        rows: Rows = []
        lost = None
        try:
            rows = await self._execute(_joint([query for query, _ in group]))
        except (psycopg.Error, EventLogError) as exc:
            # Otherwise each tries by itself, and has its own error.
            lost = exc if isinstance(exc, psycopg.Error) and _is_unknown(exc) else None
        finally:
            for _, future in group:
                if future.done():
                    continue
                if lost is None:
                    future.set_result(rows or None)
                else:
                    future.set_exception(_same(lost))
            self._call_next(key)

    def _call_next(self, key: Hashable) -> None:
        queue = self._queues[key]
        queue[:] = [each for each in queue if not each[1].done()]
        group = queue[: _affordable([query for query, _ in queue])]
        del queue[: len(group)]
        if not group:
            del self._queues[key]
            return
        # In a task of its own: whoever is cancelled takes nobody along.
        leader = asyncio.get_running_loop().create_task(self._lead(key, group))
        self._leaders.add(leader)
        leader.add_done_callback(self._leaders.discard)
