"""Erasing while 8 workers append to the same threads: no lost event, no error but the documented ones, no deadlock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.errors import ThreadDeletedError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.checkpoints import Tables, checkpoint_of, config_of
from tests.support.clock import Clock
from tests.support.soundness import assert_keyframes, assert_sound, projected

WORKERS = 8
THREADS = ("1", "2")
STEPS = 40

SETTINGS: dict[str, Any] = {"snapshot_floor_bytes": 2048}

TEXTS = [f"{number} " * 20 for number in range(30)]

#: Ids in the order of time, across all makers, as LangGraph's are.
_numbers = count(1)


class Worker:
    """Appends a line of checkpoints, each with writes, to one of the threads; starts again when its line is erased."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.thread_id = THREADS[number % len(THREADS)]
        self.parent_id: str | None = None
        self.appended = 0
        self.refused = 0
        self.last: dict[str, Any] = {}

    def step(self, step: int) -> tuple[Any, Any, dict[str, Any]]:
        id_ = f"{next(_numbers):08}"
        values = {"messages": [*TEXTS, *range(step)], "worker": self.number}
        checkpoint = checkpoint_of(id_, values, {"messages": id_, "worker": f"{self.number}"})
        return config_of(self.thread_id, self.parent_id), checkpoint, {"run_id": f"{self.number}.{step // 8}"}

    def run(self, saver: Any) -> None:
        for step in range(STEPS):
            config, checkpoint, metadata = self.step(step)
            try:
                stored = saver.put(config, checkpoint, metadata, checkpoint["channel_versions"])
                self.done(checkpoint)
                saver.put_writes(stored, [("messages", [*TEXTS, step])], f"task {self.number}")
                self.appended += 1
            except ThreadDeletedError:
                self.start_again()

    async def arun(self, saver: Any) -> None:
        for step in range(STEPS):
            config, checkpoint, metadata = self.step(step)
            try:
                stored = await saver.aput(config, checkpoint, metadata, checkpoint["channel_versions"])
                self.done(checkpoint)
                await saver.aput_writes(stored, [("messages", [*TEXTS, step])], f"task {self.number}")
                self.appended += 1
            except ThreadDeletedError:
                self.start_again()

    def done(self, checkpoint: Any) -> None:
        self.appended += 1
        self.parent_id = checkpoint["id"]
        self.last = checkpoint

    def start_again(self) -> None:
        self.refused += 1
        self.parent_id = None


#: What an operator does all the time, on the sync or (with an a, for what LangGraph names) the async saver.
OPERATIONS: dict[str, Callable[[Any, str, Clock, int], Any]] = {
    "delete": lambda saver, a, clock, turn: getattr(saver, f"{a}delete_thread")(THREADS[turn % 2]),
    "prune": lambda saver, a, clock, turn: getattr(saver, f"{a}prune")(THREADS),
    "prune but heads": lambda saver, a, clock, turn: saver.log.prune(THREADS, keep_last=2),
    "delete runs": lambda saver, a, clock, turn: getattr(saver, f"{a}delete_for_runs")(
        [f"{worker}.{turn % 5}" for worker in range(WORKERS)]
    ),
    "retain": lambda saver, a, clock, turn: (
        clock.advance(timedelta(hours=9)),
        saver.log.retain(timedelta(days=1)),
    )[1],
}


def check(uri: str, workers: list[Worker], operation: str) -> None:
    """Each acknowledged event is there, or in the count of a record that it was erased."""
    tables = Tables(uri)
    assert_sound(tables)
    assert_keyframes(tables)
    assert_readable(uri)
    there = tables.one("select count(*) from {schema}.events where kind in (1, 2)")
    erased = tables.one(
        "select coalesce(sum(({schema}.record_details_v1(body) ->> 'events')::bigint), 0) "
        "from {schema}.events where kind > 2"
    )
    assert erased > 0, "nothing was erased meanwhile"
    if operation != "retain":  # where records of earlier cuts go with their partitions
        assert there + erased == sum(worker.appended for worker in workers)
    if operation == "prune but heads":
        assert not any(worker.refused for worker in workers)
    with psycopg.connect(uri, autocommit=True) as conn:
        reader = EventLogSaver(conn, state_cache_bytes=0)
        if operation == "prune but heads":
            for worker in workers:
                found = reader.get_tuple(config_of(worker.thread_id, worker.parent_id))
                assert found is not None
                assert found.checkpoint["channel_values"] == worker.last["channel_values"]
                assert len(found.pending_writes or ()) == 1
        before = projected(tables, keyframes=False)
        reader.log.rebuild()
        assert projected(tables, keyframes=False) == before


def assert_readable(uri: str) -> None:
    """Every checkpoint that is left says what was put."""
    with psycopg.connect(uri, autocommit=True) as conn:
        for found in EventLogSaver(conn, state_cache_bytes=0).list(None):
            messages = found.checkpoint["channel_values"]["messages"]
            assert messages == [*TEXTS, *range(len(messages) - len(TEXTS))]
            assert all(value[: len(TEXTS)] == TEXTS for _, _, value in found.pending_writes or ())


@pytest.fixture
def clock(timed_uri: str) -> Clock:
    found = Clock(timed_uri, behind=timedelta(days=1000))
    with psycopg.connect(timed_uri, autocommit=True) as conn:
        EventLogSaver(conn, **SETTINGS).setup(partition_interval="day", partitions_ahead=1)
    return found


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_keep_the_log_readable_while_threads_write(operation: str, timed_uri: str, clock: Clock) -> None:
    """Workers in threads on one saver, the operator on another, and a reader that reads everything."""
    uri = timed_uri
    workers = [Worker(number) for number in range(WORKERS)]
    finished = threading.Event()

    def operate() -> int:
        with ConnectionPool(uri, min_size=1, max_size=2) as pool:
            saver = EventLogSaver(pool, **SETTINGS)
            for turn in count():
                OPERATIONS[operation](saver, "", clock, turn)
                if finished.is_set():
                    return turn
        raise AssertionError("unreachable")

    def read() -> None:
        while not finished.is_set():
            assert_readable(uri)

    with ConnectionPool(uri, min_size=1, max_size=WORKERS) as pool, ThreadPoolExecutor(WORKERS + 2) as threads:
        saver = EventLogSaver(pool, **SETTINGS)
        operator, reader = threads.submit(operate), threads.submit(read)
        try:
            list(threads.map(lambda worker: worker.run(saver), workers))
        finally:
            finished.set()
        assert operator.result() > 2
        reader.result()
    check(uri, workers, operation)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_operations_keep_the_log_readable_while_tasks_write(operation: str, timed_uri: str, clock: Clock) -> None:
    uri = timed_uri
    workers = [Worker(number) for number in range(WORKERS)]
    finished = asyncio.Event()

    async def operate(saver: Any) -> int:
        for turn in count():
            await OPERATIONS[operation](saver, "a", clock, turn)
            if finished.is_set():
                return turn
        raise AssertionError("unreachable")

    async with (
        AsyncConnectionPool(uri, min_size=1, max_size=WORKERS, open=False) as pool,
        AsyncConnectionPool(uri, min_size=1, max_size=2, open=False) as other,
    ):
        saver = AsyncEventLogSaver(pool, **SETTINGS)
        operator = asyncio.create_task(operate(AsyncEventLogSaver(other, **SETTINGS)))
        try:
            await asyncio.gather(*(worker.arun(saver) for worker in workers))
        finally:
            finished.set()
        assert await operator > 2
    await asyncio.to_thread(check, uri, workers, operation)
