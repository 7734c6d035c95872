"""Eight sync and eight async workers on one database, two readers beside them, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any

from psycopg_pool import AsyncConnectionPool, ConnectionPool
from typing_extensions import Self

from eventlog.errors import EventLogError, LogCorruptedError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.faults.workers import ASKS, AsyncRecording, Record, Recording, Worker, expected
from tests.support.adapters import CONNECT
from tests.support.checkpoints import Tables
from tests.support.soundness import assert_sound

__all__ = ["Workload", "assert_nothing_lost"]

#: Workers of each mode. Half of them run on a pool of the user's, the others on one that the saver opened.
WORKERS = 8

#: What a healed saver may take to go on, in seconds: a pool tries again after 1, 2, 4, … seconds.
PATIENCE = 240.0

#: How long a caller waits for a connection of the user's pool, in seconds.
POOL_TIMEOUT = 3.0


class Workload:
    """Workers and readers, from entering to leaving the `with` statement, which ends when each is between two turns.

    Args:
        uri: where they connect to.
        settings: of the savers.
    """

    def __init__(self, uri: str, **settings: Any) -> None:
        self.record = Record()
        self.workers: list[Worker] = []
        self.reads = 0
        self._uri = uri
        # A snapshot at nearly every step: what they hold is read, too.
        self._settings = {"snapshot_floor_bytes": 0, **settings}
        self._stop = threading.Event()
        self._is_over = threading.Event()
        self._failed: list[BaseException] = []
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self._are_ready = threading.Event()

    def __enter__(self) -> Self:
        savers = [
            Recording(self._stack.enter_context(ConnectionPool(self._uri, **_POOL)), **self._settings),
            self._stack.enter_context(Recording.from_conn_string(self._uri, **self._settings)),
        ]
        for number in range(WORKERS):
            saver: Any = savers[number % 2]
            saver.record = self.record
            worker = Worker(saver, f"sync {number}", number % 4 > 1)
            self.workers.append(worker)
            self._start(worker.run, self._stop)
        self._start(lambda: asyncio.run(self._run_async()))
        for cache_bytes in (0, 2**20):
            reader = EventLogSaver(
                self._stack.enter_context(ConnectionPool(self._uri, **_POOL)), state_cache_bytes=cache_bytes
            )
            self._start(self._read, reader)
        assert self._are_ready.wait(PATIENCE), self._failed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        deadline = time.monotonic() + PATIENCE
        for thread in self._threads[: WORKERS + 1]:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._stack.close()
        if kind is None:
            self._raise_failures()
            assert not any(thread.is_alive() for thread in self._threads), "a worker did not come to an end"

    @property
    def errors(self) -> list[EventLogError]:
        """What the workers got instead of an answer."""
        return [error for worker in self.workers for error in worker.errors]

    def errors_of(self, thread_ids: Iterable[str]) -> list[EventLogError]:
        """What the workers of these threads got."""
        wanted = set(thread_ids)
        return [error for worker in self.workers if worker.thread_id in wanted for error in worker.errors]

    def go_on(self, turns: int = 1, among: Iterable[str] | None = None) -> None:
        """Wait until each worker has finished so many more turns.

        Args:
            among: only the workers of these threads.
        """
        wanted = None if among is None else set(among)
        workers = [worker for worker in self.workers if wanted is None or worker.thread_id in wanted]
        goals = [worker.turns + turns for worker in workers]

        def behind() -> list[str]:
            return [
                f"{worker.thread_id}: turn {worker.turns} of {goal}, last error {worker.errors[-1:]}"
                for worker, goal in zip(workers, goals, strict=True)
                if worker.turns < goal
            ]

        self.wait_until(lambda: not behind(), behind)

    def wait_until(self, condition: Callable[[], bool], otherwise: Callable[[], Any] = lambda: "") -> None:
        """Wait for something; fails with what `otherwise` says, or with the failure of a worker or reader."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self._raise_failures()
            assert time.monotonic() < deadline, otherwise()
            time.sleep(0.02)

    def _raise_failures(self) -> None:
        if self._failed:
            raise self._failed[0]

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        def run() -> None:
            try:
                target(*args)
            except BaseException as exc:  # the main thread raises it
                self._failed.append(exc)

        self._threads.append(threading.Thread(target=run, name=f"workload {len(self._threads)}", daemon=True))
        self._threads[-1].start()

    async def _run_async(self) -> None:
        async with AsyncExitStack() as stack:
            pool = AsyncConnectionPool(self._uri, **_POOL)
            savers = [
                AsyncRecording(await stack.enter_async_context(pool), **self._settings),
                await stack.enter_async_context(AsyncRecording.from_conn_string(self._uri, **self._settings)),
            ]
            workers = []
            for number in range(WORKERS):
                saver: Any = savers[number % 2]
                saver.record = self.record
                workers.append(Worker(saver, f"async {number}", ASKS["async"] and number % 4 > 1))
            self.workers += workers
            self._are_ready.set()
            await asyncio.gather(*(worker.arun(self._stop) for worker in workers))

    def _read(self, saver: EventLogSaver) -> None:
        """Look at what is being written, and never see half of it."""
        while not self._is_over.is_set():
            for thread_id in [worker.thread_id for worker in self.workers]:
                try:
                    for found in saver.list({"configurable": {"thread_id": thread_id}}, limit=5):
                        self._look(found)
                    latest = saver.get_tuple({"configurable": {"thread_id": thread_id}})
                    if latest is not None:
                        self._look(latest)
                    self.reads += 1
                    time.sleep(0.03)
                except LogCorruptedError:
                    raise
                except EventLogError:
                    time.sleep(0.02)
                if self._is_over.is_set():
                    return

    @staticmethod
    def _look(found: Any) -> None:
        values, versions = found.checkpoint["channel_values"], found.checkpoint["channel_versions"]
        assert values.keys() <= versions.keys(), f"values without a version in {found.config}"
        assert values.get("count", 0) == len(values.get("items", ())), f"half a step in {found.config}: {values}"
        told: dict[str, list[int]] = {}
        for task_id, channel, value in found.pending_writes:
            counts = told.setdefault(task_id, [0, 0])
            counts[0] += len(value) if channel == "items" else 0
            counts[1] += value if channel == "count" else 0
        assert all(items == count for items, count in told.values()), f"half a task's writes in {found.config}"


_POOL: dict[str, Any] = {
    "min_size": 1,
    "max_size": 8,
    "timeout": POOL_TIMEOUT,
    "kwargs": dict(CONNECT),
    "open": False,
}


def assert_nothing_lost(workload: Workload, uri: str) -> None:
    """What was acknowledged is there once, graphs are where they should be, and the log is sound.

    Args:
        uri: where to look, without anything in between.
    """
    tables = Tables(uri)
    assert_sound(tables)
    twice = tables.rows(
        "select thread_id, checkpoint_id, count(*) from {schema}.events where kind = 1"
        " group by thread_id, checkpoint_ns, checkpoint_id having count(*) > 1"
    )
    assert not twice, f"appended more than once: {twice}"
    with EventLogSaver.from_conn_string(uri) as saver:
        found = {
            (named["thread_id"], named["checkpoint_ns"], named["checkpoint_id"]): each
            for each in saver.list(None)
            for named in [each.config["configurable"]]
        }
        logged = tables.rows(
            "select distinct thread_id, checkpoint_ns, checkpoint_id from {schema}.events where kind = 2"
        )
        missing = workload.record.missing(found, set(logged))
        assert not missing, f"{len(missing)} of what was acknowledged, the first: {missing[:5]}"
        for worker in workload.workers:
            latest = saver.get({"configurable": {"thread_id": worker.thread_id}})
            items = latest["channel_values"]["items"] if latest else []
            told = expected(worker.turns, asks=worker.asks)
            assert items == told, f"{worker.thread_id} has {items}, not {told}, after {worker.errors}"
        assert saver.log.verify().problems == []
        assert saver.log.rebuild(check=True).differences == []
    assert workload.reads > 0
