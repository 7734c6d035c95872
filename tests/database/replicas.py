"""Replicas of a service: processes that start together, each with a saver of its own.

They are forked from a process that has imported everything, which makes them cheap: sixteen start in half a second.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier
from typing import Any

from tests.support.adapters import open_saver

__all__ = ["KINDS_OF_REPLICAS", "Replicas", "replicas"]

#: Those that a service would have: both colours, with a string's own pool and with what it was given.
KINDS_OF_REPLICAS = ("sync-string", "async-string", "sync-pool", "async-connection")

#: In seconds: how long replicas may take, on a machine that has other things to do.
PATIENCE = 240

#: What a replica does with its saver, and its number: a function of a module, which is sent by name.
Work = Callable[[Any, int], Awaitable[None]]


class Replicas:
    """Processes that have been started."""

    def __init__(self, processes: list[ForkServerProcess], start: Barrier) -> None:
        self.processes = processes
        self._start = start

    def go(self) -> None:
        """Wait until all have opened their savers, and let them begin at once."""
        self._start.wait(PATIENCE)

    def kill(self, number: int) -> None:
        """SIGKILL: it can do nothing more, not even close its connection."""
        self.processes[number].kill()
        self.processes[number].join(PATIENCE)

    def finish(self) -> list[int | None]:
        """Wait until all are done; returns their exit codes: 0 where the work succeeded."""
        for process in self.processes:
            process.join(PATIENCE)
        return [process.exitcode for process in self.processes]


@contextmanager
def replicas(uri: str, count: int, work: Work, **settings: Any) -> Iterator[Replicas]:
    """Start so many, each with a saver on the database at `uri` and with connections named ``replica <number>``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", __name__])
    start = context.Barrier(count + 1)
    processes = [
        context.Process(target=_run, args=(uri, number, start, work, settings), daemon=True) for number in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield Replicas(processes, start)
    finally:
        for process in processes:
            process.kill()
            process.join(PATIENCE)


def _run(uri: str, number: int, start: Barrier, work: Work, settings: dict[str, Any]) -> None:
    async def run() -> None:
        kind = KINDS_OF_REPLICAS[number % len(KINDS_OF_REPLICAS)]
        async with open_saver(kind, f"{uri}&application_name=replica%20{number}", **settings) as saver:
            start.wait(PATIENCE)
            await work(saver, number)

    asyncio.run(run())
