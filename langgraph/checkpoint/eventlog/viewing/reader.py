"""A log for viewers: its methods awaited, sync or async, with values decoded strictly and as they are stored."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from anyio import CapacityLimiter, from_thread
from anyio.to_thread import run_sync

from eventlog.db.query import MakeOp
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, LogCorruptedError
from eventlog.format.contents import Serialized
from eventlog.format.values import loads
from langgraph.checkpoint.eventlog._async_log import AsyncEventLog
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader as StateReader
from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._setup import sharing
from langgraph.checkpoint.eventlog.viewing.decoding import lenient, undecodable

__all__ = ["Reader"]

T = TypeVar("T")

#: Calls of one sync log at a time: each takes a thread, and a connection of the pool.
MOST_CALLS = 8


class Reader:
    """Reads a log on behalf of a viewer. It shares the log's connection, and is read only.

    Values are decoded with LangGraph's strict list and the log's allow-list, even with `trust_types`. An undecodable
    value is shown as data (`viewing.decoding`). The log's upcasters are not called: values are shown as stored.

    Args:
        log: an `EventLog` or an `AsyncEventLog`, of a saver (`saver.log`) or opened alone.

    Raises:
        InvalidInputError: when it is no log.
    """

    def __init__(self, log: EventLog | AsyncEventLog) -> None:
        if not isinstance(log, (EventLog, AsyncEventLog)):
            raise InvalidInputError(
                f"log must be an EventLog or an AsyncEventLog, such as saver.log, not {type(log).__name__}"
            )
        cls: Any = type(log)
        made: Any = sharing(cls, log)
        settings = made._context.settings.model_copy(update={"upcasters": None})
        made._context = replace(made._context, settings=settings, readers=[])
        made.serde = lenient(log.serde)
        self._log = made
        self._is_async = isinstance(log, AsyncEventLog)
        self._limiter: CapacityLimiter | None = None

    @property
    def context(self) -> Context:
        """Settings, statements and caches."""
        return self._log._context  # type: ignore[no-any-return]

    @property
    def statements(self) -> Statements:
        """The log's SQL."""
        return self.context.statements

    @property
    def states(self) -> StateReader:
        """The reader and decoder of states."""
        return self.context.reader(self._log.serde)

    @property
    def is_away(self) -> bool:
        """Whether the database is away, as far as the log's connections have noticed."""
        return bool(self._log._driver.is_away)

    def load(self, value: Serialized) -> Any:
        """Decode a value, or return a placeholder if it does not decode."""
        try:
            return loads(self.states.plain, value, "a value")
        except LogCorruptedError as exc:
            # Of types that the log itself serializes.
            return undecodable(value.type, value.data, str(exc))

    async def run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the log; an iterator comes back as a list. Raises as the method does."""
        method = getattr(self._log, name)
        if not self._is_async:

            def call() -> Any:
                result = method(*args, **kwargs)
                return list(result) if isinstance(result, Iterator) else result

            return await self.in_thread(call)
        result = method(*args, **kwargs)
        if isinstance(result, AsyncIterable):
            return [each async for each in result]
        return await result

    async def ask(self, make_op: MakeOp[T]) -> T:
        """Run an operation of the log, each of its queries in a transaction of its own."""
        if self._is_async:
            return await self._log._driver.run(make_op)  # type: ignore[no-any-return]
        return await self.in_thread(lambda: self._log._driver.run(make_op))  # type: ignore[no-any-return]

    async def in_thread(self, call: Any) -> Any:
        """Run a slow call off the event loop."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(MOST_CALLS)
        limiter, held = self._limiter, [object()]
        started = finished = abandoned = False

        def free() -> None:
            if held:
                limiter.release_on_behalf_of(held.pop())

        def run() -> Any:
            nonlocal started, finished
            started = True
            try:
                return call()
            finally:
                finished = True
                if abandoned:
                    # Not when the caller was cancelled, but now: until here the thread and its query were running.
                    with suppress(RuntimeError):
                        from_thread.run_sync(free)

        await limiter.acquire_on_behalf_of(held[0])
        try:
            # The limit is the one above.
            return await run_sync(run, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        finally:
            abandoned = True
            if finished or not started:
                free()

    async def batches(
        self, name: str, *args: Any, make: Callable[[Any], T], size: int, **kwargs: Any
    ) -> AsyncIterator[list[T]]:
        """Iterate over the items of a method of the log, in one reading, in lists of this size, off the event loop."""
        found = getattr(self._log, name)(*args, **kwargs)
        while True:
            if self._is_async:
                batch = [each async for each in _next(found, size)]
                made = await self.in_thread(partial(list, map(make, batch)))
            else:
                made = await self.in_thread(lambda: list(map(make, islice(found, size))))
            if made:
                yield made
            if len(made) < size:
                return


async def _next(found: Any, size: int) -> AsyncIterator[Any]:
    """The next items of an iterator, which stays open."""
    for _ in range(size):
        try:
            yield await anext(found)
        except StopAsyncIteration:
            return
