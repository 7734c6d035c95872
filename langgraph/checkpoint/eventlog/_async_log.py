"""The async twin of `_log` and `_log_reader`.

A method of `EventLog` validates, starts an operation or a script, and hands it to the driver. Whether that waits or
gives something to await is the driver's affair, so the body serves both. What iterates has a body of its own.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from eventlog.events import Cursor, StoredEvent
from eventlog.feed import channel_of
from langgraph.checkpoint.eventlog._arguments import seconds_of
from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._setup import AsyncConnected
from langgraph.checkpoint.eventlog.audit.history import Reading, read_pages_async
from langgraph.checkpoint.eventlog.following import tail as _following
from projections.history import Change, HistoryEntry

__all__ = ["AsyncEventLog", "awaitable"]

P = ParamSpec("P")
T = TypeVar("T")


def awaitable(
    method: Callable[Concatenate[Any, P], T], prefix: str = ""
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The twin of a method of `EventLog` or `EventLogSaver`, with the same parameters, to be awaited.

    Args:
        prefix: of the twin's name.
    """
    body: Any = method

    @functools.wraps(method)
    async def twin(self: AsyncConnected, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await body(self, *args, **kwargs)  # type: ignore[no-any-return]

    owner, _, name = method.__qualname__.rpartition(".")
    twin.__name__ = prefix + name
    twin.__qualname__ = f"Async{owner}.{twin.__name__}"
    return twin


class AsyncEventLog(AsyncConnected):
    """The async twin of `langgraph.checkpoint.eventlog.EventLog`: the same methods under the same names.

    Each method that asks the database is awaitable, or an async iterator. Callbacks (`on_thread` and the like) are
    called in the event loop. Arguments as for `EventLog`, on a psycopg `AsyncConnection` or `AsyncConnectionPool`.
    """

    # --- threads and their history

    threads = awaitable(EventLog.threads)
    namespaces = awaitable(EventLog.namespaces)
    diff = awaitable(EventLog.diff)
    state_at = awaitable(EventLog.state_at)

    def history(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryEntry | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> AsyncIterator[HistoryEntry]:
        """As `EventLog.history`: an async iterator."""
        arguments = thread_id, checkpoint_ns, after, limit, newest_first, kinds
        reading = Reading(self._context, self.serde, *arguments, with_values=False)
        return (change.entry async for change in read_pages_async(self._driver, reading))

    def changes(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryEntry | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> AsyncIterator[Change]:
        """As `EventLog.changes`: an async iterator."""
        arguments = thread_id, checkpoint_ns, after, limit, newest_first, kinds
        return read_pages_async(self._driver, Reading(self._context, self.serde, *arguments, with_values=True))

    # --- checkpoints as they are stored, and figures

    inspect = awaitable(EventLog.inspect)
    find = awaitable(EventLog.find)
    stats = awaitable(EventLog.stats)
    partitions = awaitable(EventLog.partitions)
    projections = awaitable(EventLog.projections)

    # --- the feed

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
        """As `EventLog.tail`: an async iterator."""
        statements = self._context.statements
        steps = _following.tail(statements, after, follow, poll_interval, thread_ids, limit)
        wake = _following.waking(wake, psycopg.AsyncConnection)
        return _following.follow_async(self._driver, steps, wake, channel_of(statements))

    def notify_appends(self, *, interval: float = 0.2) -> AsyncGenerator[Cursor, None]:
        """As `EventLog.notify_appends`: an async iterator."""
        steps = _following.notify(self._context.statements, seconds_of(interval, "interval"))
        return _following.follow_async(self._driver, steps)

    decode = awaitable(EventLog.decode)
    tail_position = awaitable(EventLog.tail_position)
    lag = awaitable(EventLog.lag)

    # --- integrity

    verify = awaitable(EventLog.verify)
    seals = awaitable(EventLog.seals)
    prove = awaitable(EventLog.prove)
    seal = awaitable(EventLog.seal)

    # --- erasing and copying

    grant = awaitable(EventLog.grant)
    make_partitions = awaitable(EventLog.make_partitions)
    delete_thread = awaitable(EventLog.delete_thread)
    delete_for_runs = awaitable(EventLog.delete_for_runs)
    prune = awaitable(EventLog.prune)
    expire = awaitable(EventLog.expire)
    retain = awaitable(EventLog.retain)
    copy_thread = awaitable(EventLog.copy_thread)
    fork_thread = awaitable(EventLog.fork_thread)

    # --- projections, replication

    project = awaitable(EventLog.project)
    rebuild_projection = awaitable(EventLog.rebuild_projection)
    forget_projection = awaitable(EventLog.forget_projection)
    rebuild = awaitable(EventLog.rebuild)
    drop_old = awaitable(EventLog.drop_old)
    make_subscriber = awaitable(EventLog.make_subscriber)
    take_over = awaitable(EventLog.take_over)
