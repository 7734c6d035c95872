"""The savers against LangGraph's `InMemorySaver`, in every order of calls that Hypothesis finds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.checkpoints import Tables
from tests.support.machine import CheckpointMachine


def run(machine: type[CheckpointMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=examples,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


def bound(savers: list[Any], tables: Tables, finish: Callable[[Any], Any]) -> type[CheckpointMachine]:
    """A machine on some savers: the last one has no cache and reads."""
    return type(
        "Bound",
        (CheckpointMachine,),
        {
            "savers": savers,
            "model_reader": savers[-1],
            "tables": tables,
            "finish": staticmethod(finish),
        },
    )


# A failure is made small before it is shown, for up to five minutes.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("floor", [0, 4096], ids=["snapshots always", "snapshots often"])
def test_sync_savers_follow_the_model(floor: int, database_uri: str) -> None:
    """Two savers with caches, and one without."""
    with psycopg.connect(database_uri, autocommit=True) as conn, Tables(database_uri) as tables:
        savers = [
            EventLogSaver(conn, state_cache_bytes=cache, snapshot_floor_bytes=floor, share_history=not cache)
            for cache in (2**20, 2**20, 0)
        ]
        run(bound(savers, tables, lambda outcome: outcome), 25)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# A failure is made small before it is shown, for up to five minutes.
@pytest.mark.timeout(1800)
def test_async_savers_follow_the_model(database_uri: str) -> None:
    """The async saver, through the sync methods that it has for other threads."""
    with running_loop() as loop, Tables(database_uri) as tables:

        def wait(coroutine: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        async def connect() -> psycopg.AsyncConnection[Any]:
            return await psycopg.AsyncConnection.connect(database_uri, autocommit=True)

        async def open_savers(conn: psycopg.AsyncConnection[Any]) -> list[AsyncEventLogSaver]:
            return [
                AsyncEventLogSaver(
                    conn,
                    state_cache_bytes=cache,
                    snapshot_floor_bytes=4096,
                    offload_bytes=2000,
                    share_history=not cache,
                )
                for cache in (2**20, 0)
            ]

        conn = wait(connect())
        try:
            run(bound(wait(open_savers(conn)), tables, wait), 10)
        finally:
            wait(conn.close())
