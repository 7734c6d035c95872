"""The async twin of `_log` and `_log_reader`.

A method of `EventLog` validates, starts an operation or a script, and hands it to the driver. Whether that waits or
gives something to await is the driver's affair, so the body serves both. So it is with what iterates.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from eventlog.events import Cursor, StoredEvent
from eventlog.feed import channel_of
from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._setup import AsyncConnected
from langgraph.checkpoint.eventlog.following import tail as _following

__all__ = ["AsyncEventLog", "awaitable", "iterating"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


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

    return _named(twin, method, prefix)


def iterating(
    method: Callable[Concatenate[Any, P], Iterator[T]], prefix: str = ""
) -> Callable[Concatenate[Any, P], AsyncGenerator[T, None]]:
    """As `awaitable`, of a method that gives an iterator: the twin gives an async one."""
    body: Any = method

    @functools.wraps(method)
    def twin(self: AsyncConnected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return body(self, *args, **kwargs)  # type: ignore[no-any-return]

    signature = inspect.signature(method)
    returns = f"Async{signature.return_annotation}".replace(", None, None]", ", None]")
    twin.__signature__ = signature.replace(return_annotation=returns)  # type: ignore[attr-defined]
    return _named(twin, method, prefix)


def _named(twin: F, method: Callable[..., Any], prefix: str) -> F:
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

    history = iterating(EventLog.history)
    changes = iterating(EventLog.changes)

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
        return self._driver.stream(steps, wake, channel_of(statements))

    notify_appends = iterating(EventLog.notify_appends)
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
    make_subscriber = awaitable(EventLog.make_subscriber)
    take_over = awaitable(EventLog.take_over)
