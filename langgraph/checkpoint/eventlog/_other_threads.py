"""Sync methods of an async saver: threads other than the event loop's call them, and the loop does the work."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from eventlog.errors import EventLoopError

__all__ = ["OtherThreads", "blocking"]

P = ParamSpec("P")
T = TypeVar("T")


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """The sync twin of an async method, for threads other than the event loop's: the loop does the work."""

    @functools.wraps(method)
    def twin(self: OtherThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(lambda: method(self, *args, **kwargs))

    twin.__name__ = method.__name__[1:]
    twin.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.{twin.__name__}"
    twin.__doc__ = f"`{method.__name__}`, from a thread other than the event loop's."
    return twin


class OtherThreads:
    """The sync methods' functions that wait for the event loop, and the one that iterates."""

    alist: Callable[..., AsyncIterator[CheckpointTuple]]

    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that the saver runs on."""
        raise NotImplementedError

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
        items = self.alist(config, filter=filter, before=before, limit=limit)
        while (found := self._wait(lambda: anext(items, None))) is not None:
            yield found

    def _other_loop(self) -> asyncio.AbstractEventLoop:
        """The saver's loop. Raises an error where waiting for it would never end."""
        loop = self._loop
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
