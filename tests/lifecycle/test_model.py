"""Erasing, copying and retention against a model, in every order of calls that Hypothesis finds."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.lifecycle.machine import LifecycleMachine
from tests.saver.test_model import run, running_loop
from tests.support.checkpoints import Tables
from tests.support.clock import Clock

SETTINGS: dict[str, Any] = {"partition_interval": "day", "partitions_ahead": 0}


def bound(savers: list[Any], tables: Tables, clock: Clock, finish: Any) -> type[LifecycleMachine]:
    """A machine on some savers: the last one has no cache and reads."""
    return type(
        "Bound",
        (LifecycleMachine,),
        {
            "savers": savers,
            "model_reader": savers[-1],
            "tables": tables,
            "clock": clock,
            "finish": staticmethod(finish),
        },
    )


# A failure is made small before it is shown, for up to five minutes.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("floor", [0, 4096], ids=["snapshots always", "snapshots often"])
def test_sync_savers_follow_the_model(floor: int, timed_uri: str) -> None:
    """Two savers with caches, and one without."""
    clock = Clock(timed_uri, behind=timedelta(days=3650))
    with psycopg.connect(timed_uri, autocommit=True) as conn, Tables(timed_uri) as tables:
        savers = [
            EventLogSaver(conn, state_cache_bytes=cache, snapshot_floor_bytes=floor) for cache in (2**20, 2**20, 0)
        ]
        savers[0].setup(**SETTINGS)
        run(bound(savers, tables, clock, lambda outcome: outcome), 20)


# A failure is made small before it is shown, for up to five minutes.
@pytest.mark.timeout(1800)
def test_async_savers_follow_the_model(timed_uri: str) -> None:
    """The async saver, through the sync methods that it has for other threads."""
    clock = Clock(timed_uri, behind=timedelta(days=3650))
    with running_loop() as loop, Tables(timed_uri) as tables:

        def finish(outcome: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(outcome, loop).result() if asyncio.iscoroutine(outcome) else outcome

        async def open_savers() -> tuple[Any, list[AsyncEventLogSaver]]:
            conn = await psycopg.AsyncConnection.connect(timed_uri, autocommit=True)
            savers = [
                AsyncEventLogSaver(conn, state_cache_bytes=cache, snapshot_floor_bytes=4096, offload_bytes=2000)
                for cache in (2**20, 0)
            ]
            await savers[0].setup(**SETTINGS)
            return conn, savers

        conn, savers = finish(open_savers())
        try:
            run(bound(savers, tables, clock, finish), 8)
        finally:
            finish(conn.close())
