"""The asynchronous saver: the twin of `_saver`, and its sync methods for other threads."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from eventlog.errors import EventLoopError
from langgraph.checkpoint.eventlog._async_log import AsyncEventLog
from langgraph.checkpoint.eventlog._saver import EventLogSaver, SaverBase
from langgraph.checkpoint.eventlog._setup import AsyncConnected, awaitable, iterating, sharing

__all__ = ["AsyncEventLogSaver"]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """The sync twin of an async method, for threads other than the event loop's: the loop does the work."""

    @functools.wraps(method)
    def twin(self: AsyncEventLogSaver, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(lambda: method(self, *args, **kwargs))

    twin.__name__ = method.__name__[1:]
    twin.__qualname__ = f"AsyncEventLogSaver.{twin.__name__}"
    twin.__doc__ = f"`{method.__name__}`, from a thread other than the event loop's."
    return twin


class AsyncEventLogSaver(AsyncConnected, SaverBase):
    """The async twin of `langgraph.checkpoint.eventlog.EventLogSaver`: the same log, settings and errors.

    States larger than ``offload_bytes`` are encoded and decoded in a worker thread, off the event loop. The sync
    methods work too, from any thread but the event loop's own.

    Args:
        conn: a psycopg `AsyncConnection` or `AsyncConnectionPool`, with any settings.
        pipe: the pipeline that the connection is in, if it is in one.
        serde, settings: as for `EventLogSaver`.
    """

    @property
    def log(self) -> AsyncEventLog:
        """The log that this saver writes, as `EventLogSaver.log`."""
        return sharing(AsyncEventLog, self)

    aget_tuple = awaitable(EventLogSaver.get_tuple, "a")
    aput = awaitable(EventLogSaver.put, "a")
    aput_writes = awaitable(EventLogSaver.put_writes, "a")
    aget_delta_channel_history = awaitable(EventLogSaver.get_delta_channel_history, "a")
    adelete_thread = awaitable(EventLogSaver.delete_thread, "a")
    adelete_for_runs = awaitable(EventLogSaver.delete_for_runs, "a")
    acopy_thread = awaitable(EventLogSaver.copy_thread, "a")
    aprune = awaitable(EventLogSaver.prune, "a")

    alist = iterating(EventLogSaver.list, "a")

    # --- the sync methods, for other threads

    get_tuple = _blocking(aget_tuple)
    put = _blocking(aput)
    put_writes = _blocking(aput_writes)
    get_delta_channel_history = _blocking(aget_delta_channel_history)
    delete_thread = _blocking(adelete_thread)
    delete_for_runs = _blocking(adelete_for_runs)
    copy_thread = _blocking(acopy_thread)
    prune = _blocking(aprune)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """`alist`, from a thread other than the event loop's."""
        self._other_loop()
        checkpoints = self.alist(config, filter=filter, before=before, limit=limit)
        while (found := self._wait(lambda: anext(checkpoints, None))) is not None:
            yield found

    def _other_loop(self) -> asyncio.AbstractEventLoop:
        """The saver's loop, made sure that waiting for it cannot wait for ever."""
        loop = self._driver.loop
        if loop is None or not loop.is_running():
            raise EventLoopError(
                "the saver's event loop is not running: sync methods of AsyncEventLogSaver run on it. "
                "Use EventLogSaver in synchronous programs"
            )
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is loop:
            raise EventLoopError()
        return loop

    def _wait(self, start: Callable[[], Awaitable[T]]) -> T:
        async def call() -> T:
            return await start()

        loop = self._other_loop()
        return asyncio.run_coroutine_threadsafe(call(), loop).result()
