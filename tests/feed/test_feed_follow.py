"""Following the feed: what comes later, what it leaves behind when it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.db.query import Pause
from eventlog.db.statements import Statements
from eventlog.errors import ConnectionLostError
from eventlog.feed import START, FeedPage
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from langgraph.checkpoint.eventlog.following.tail import SHORTEST_PAUSE, tail
from tests.feed.test_feed import append, places
from tests.support.adapters import CONNECT, POOLS, open_saver
from tests.support.checkpoints import Tables, config_of
from tests.support.pooler import cancelling, direct

pytestmark = pytest.mark.portable


async def write(saver: Any, thread_id: str, *numbers: int) -> None:
    for number in numbers:
        await saver.aput_writes(config_of(thread_id, "1"), [("x", number)], f"task {number}")


async def test_following_yields_later_events_while_the_saver_serves_other_calls(saver: Any) -> None:
    """On any kind of connection, which goes on to serve other calls meanwhile."""
    await write(saver, "1", 1)
    found = []
    events = saver.log.tail(follow=True, poll_interval=0.02)
    async for event in events:
        found.append(event)
        if len(found) == 4:
            break
        await write(saver, "1", len(found) + 1)
    await events.aclose()
    assert places(found) == [("1", number) for number in range(1, 5)]


async def test_a_waiting_tail_holds_no_transaction(saver: Any, database_uri: str) -> None:
    """No transaction is open, and appends on the same saver go on; what they bring is there in the end."""
    started = asyncio.ensure_future(collect(saver.log.tail(follow=True, poll_interval=0.02, limit=3)))
    open_transactions = "select count(*) from pg_stat_activity where datname = current_database() and %s"
    for number in range(3):
        # Directly: what is executed often psycopg prepares, and that belongs to a session.
        with psycopg.connect(direct(database_uri), autocommit=True) as conn:
            for _ in range(20):
                await asyncio.sleep(0.005)
                query = open_transactions.replace("%s", "state like 'idle in transaction%'")
                assert conn.execute(query).fetchall() == [(0,)]  # type: ignore[arg-type]
        await write(saver, "1", number)
    assert places(await started) == [("1", 1), ("1", 2), ("1", 3)]


async def collect(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


async def test_unsettled_events_are_yielded_once_settled(database_uri: str) -> None:
    async with open_saver("async-pool", database_uri) as saver:
        with psycopg.connect(database_uri) as slow:
            append(slow, "slow")
            started = asyncio.ensure_future(collect(saver.log.tail(follow=True, poll_interval=0.02, limit=2)))
            await write(saver, "quick", 1)
            await asyncio.sleep(0.2)
            assert not started.done()
        assert places(await started) == [("slow", 1), ("quick", 1)]


# --- closing


async def test_closing_an_async_tail_returns_its_connection_and_task(database_uri: str) -> None:
    """By leaving the loop, by closing, by cancelling: nothing stays checked out, no task stays behind."""
    uri = cancelling(database_uri)
    async with AsyncConnectionPool(uri, min_size=1, max_size=1, kwargs=dict(CONNECT), open=False) as pool:
        saver = AsyncEventLogSaver(pool)
        await write(saver, "1", 1, 2)
        tasks = asyncio.all_tasks()

        async with contextlib.aclosing(saver.log.tail(follow=True)) as events:
            async for _ in events:
                break
        assert asyncio.all_tasks() == tasks
        for pause in (0, 0.001, 0.01, 0.1):
            task = asyncio.ensure_future(collect(saver.log.tail(follow=True, poll_interval=0.01)))
            await asyncio.sleep(pause)
            # Before Python 3.12, asyncio's `wait_for`, with which psycopg waits, loses a cancellation that comes
            # together with what it waits for.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=1)
            assert task.cancelled()
            assert asyncio.all_tasks() == tasks
            # The pool's only connection.
            assert (await saver.log.tail_position()).generation == 1


def test_closing_a_sync_tail_returns_its_connection_and_thread(database_uri: str) -> None:
    with ConnectionPool(database_uri, min_size=1, max_size=1, kwargs=dict(CONNECT), open=False) as pool:
        saver = EventLogSaver(pool)
        for number in range(2):
            saver.put_writes(config_of("1", "1"), [("x", number)], f"task {number}")
        threads = threading.active_count()
        for _ in saver.log.tail(follow=True):
            break
        events = saver.log.tail(follow=True)
        next(events)
        assert saver.log.tail_position().generation == 1
        events.close()
        assert threading.active_count() == threads
        assert pool.get_stats()["pool_available"] == 1


@POOLS
async def test_a_tail_on_a_pool_survives_dead_connections(kind: str, database_uri: str) -> None:
    """A pool has others. The reader notices nothing."""
    async with open_saver(kind, database_uri) as saver:
        started = asyncio.ensure_future(collect(saver.log.tail(follow=True, poll_interval=0.02, limit=3)))
        for number in range(3):
            await asyncio.sleep(0.1)
            Tables(database_uri).rows(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            # Directly: the pooler may not have noticed the end yet.
            with psycopg.connect(direct(database_uri)) as conn:
                append(conn, "1", f"{number}")
        assert places(await started) == [("1", 1), ("1", 2), ("1", 3)]


@pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])
async def test_a_tail_on_a_dead_connection_raises_and_resumes_from_its_cursor(kind: str, database_uri: str) -> None:
    """Then it is an error, and another reader goes on from the last cursor."""
    # Directly: behind a pooler, the client's connection need not end with the server's.
    async with open_saver(kind, direct(database_uri)) as saver:
        await write(saver, "1", 1, 2)
        events = saver.log.tail(follow=True, poll_interval=0.02)
        first = await anext(events)
        await anext(events)
        Tables(database_uri).rows(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        with pytest.raises(ConnectionLostError):
            await anext(events)
    async with open_saver(kind, database_uri) as saver:
        assert places(await collect(saver.log.tail(first.cursor))) == [("1", 2)]


# --- pauses


def test_pauses_grow_while_idle_and_shorten_after_an_event() -> None:
    nothing = FeedPage([], START, True)
    some = FeedPage([object()], START, True)  # type: ignore[list-item]

    def pauses(poll_interval: float, *pages: FeedPage) -> list[float | None]:
        """After each page; None: it reads on at once."""
        steps = tail(Statements("eventlog"), None, True, poll_interval, None, None, None)
        next(steps)
        found: list[float | None] = []
        for page in pages:
            assert steps.send(page) == page.events
            step = next(steps)
            found.append(step.seconds if isinstance(step, Pause) else None)
            if isinstance(step, Pause):
                next(steps)
        return found

    growing = pauses(1, *[nothing] * 8)
    assert growing[0] == SHORTEST_PAUSE
    assert growing == sorted(growing)  # type: ignore[type-var]
    assert growing[-1] == growing[-2] == 1
    assert pauses(1, *[nothing] * 8, some, some._replace(is_end=False)) == [*growing, SHORTEST_PAUSE, None]
    assert pauses(0.001, *[nothing] * 3) == [0.001] * 3
