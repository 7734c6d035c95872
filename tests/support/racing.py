"""Several runs at once on one thread, which have read the same before any of them goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from eventlog.errors import ConcurrentUpdateError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.checkpoints import Tables
from tests.support.scenarios import Mode, Run, open_mode
from tests.support.soundness import assert_keyframes, assert_sound

__all__ = ["PATIENCE", "Meeting", "assert_clean", "meeting", "outcomes", "refused", "together"]

#: Much longer than anything takes; a longer wait would never end.
PATIENCE = 240.0


class Meeting:
    """Where so many threads, or tasks of one event loop, wait for each other, any number of times."""

    def __init__(self, parties: int) -> None:
        self._barrier = threading.Barrier(parties, timeout=PATIENCE)
        self._parties = parties
        self._waiting: list[asyncio.Future[None]] = []

    def wait(self) -> None:
        self._barrier.wait()

    async def await_all(self) -> None:
        here = asyncio.get_running_loop().create_future()
        self._waiting.append(here)
        if len(self._waiting) == self._parties:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.set_result(None)
        await asyncio.wait_for(here, PATIENCE)

    def hold(self, mode: Mode, saver: Any) -> None:
        """The saver's next read waits, once it has its answer, until all others have theirs."""
        if mode == "sync":
            read = saver.get_tuple

            def get_tuple(config: Any) -> Any:
                saver.get_tuple = read
                found = read(config)
                self.wait()
                return found

            saver.get_tuple = get_tuple
            return
        aread = saver.aget_tuple

        async def aget_tuple(config: Any) -> Any:
            saver.aget_tuple = aread
            found = await aread(config)
            await self.await_all()
            return found

        saver.aget_tuple = aget_tuple


@asynccontextmanager
async def meeting(
    mode: Mode, uri: str, build: Callable[[Any], Any], parties: int = 2, **settings: Any
) -> AsyncIterator[tuple[list[Run], Callable[[], None]]]:
    """As many runs of a graph on one thread, each with a saver of its own, and what makes their next reads meet."""
    async with AsyncExitStack() as stack:
        savers = [await stack.enter_async_context(open_mode(mode, uri, **settings)) for _ in range(parties)]
        runs = [Run(build(saver), mode) for saver in savers]

        def meet() -> None:
            place = Meeting(parties)
            for saver in savers:
                place.hold(mode, saver)

        yield runs, meet


async def together(mode: Mode, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call returns or raises: in threads, or as tasks of this event loop."""
    if mode == "async":
        return await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    # Not in asyncio's own threads, of which there may be fewer than who wait for each other.
    with ThreadPoolExecutor(len(calls)) as threads:
        started = [threads.submit(lambda call=call: asyncio.run(call())) for call in calls]  # type: ignore[misc]
        return await asyncio.gather(*map(asyncio.wrap_future, started), return_exceptions=True)


def outcomes(found: Sequence[Any]) -> list[str]:
    """What became of each call: "done", or the name of the error; sorted."""
    return sorted(type(each).__name__ if isinstance(each, BaseException) else "done" for each in found)


def refused(found: Sequence[Any]) -> ConcurrentUpdateError:
    """The only one that was refused. All others are done."""
    (error,) = [each for each in found if isinstance(each, BaseException)]
    assert isinstance(error, ConcurrentUpdateError), repr(error)
    # LangGraph before 1.2.15 puts the next checkpoint all the same, which is refused for its parent's sake.
    while isinstance(error.__context__, ConcurrentUpdateError):
        error = error.__context__
    return error


def assert_clean(uri: str) -> None:
    """The log is sound, and the projections say what it says."""
    tables = Tables(uri)
    assert_sound(tables)
    assert_keyframes(tables)
    with EventLogSaver.from_conn_string(uri) as saver:
        assert saver.log.verify().problems == []
        assert not any(saver.log.rebuild(check=True).differing.values())
