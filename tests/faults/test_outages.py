"""A server that is away for longer than a pool waits: how long calls last, and how soon they succeed again.

On a pool with psycopg's own settings, which tries to connect after longer and longer pauses.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.errors import ConnectionLostError
from langgraph.checkpoint.eventlog import EventLogSaver, RetryPolicy
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.faults.private import PATIENCE, PrivateServer, private_server
from tests.support.adapters import POOLS, AsyncFace
from tests.support.checkpoints import config_of, put
from tests.support.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

#: What no call may take, in seconds: how long the pool would wait, or the policy.
LONG = 60.0


@pytest.fixture(scope="module")
def victim(server: Server) -> Iterator[PrivateServer]:
    with private_server(server) as running:
        running.start()
        yield running


@pytest.fixture
def uri(victim: PrivateServer, request: pytest.FixtureRequest) -> str:
    victim.start()
    name = f"app_{abs(hash(request.node.name))}"
    return victim.create(name)


class Custom(ConnectionPool[Any]):
    """A pool of the user's own class."""

    def connection(self, *args: Any, **kwargs: Any) -> Any:
        return super().connection(*args, **kwargs)


@asynccontextmanager
async def opened(kind: str, uri: str, *, size: int = 2, timeout: float = 30.0, **settings: Any) -> AsyncIterator[Any]:
    options: dict[str, Any] = {
        "min_size": size, "max_size": size, "timeout": timeout, "kwargs": {"autocommit": True}, "open": False
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        if kind.startswith("async"):
            apool = await stack.enter_async_context(AsyncConnectionPool(uri, **options))
            await apool.wait()
            yield AsyncEventLogSaver(apool, **settings)
        else:
            pool_class = Custom if kind == "sync-custom" else ConnectionPool
            pool = stack.enter_context(pool_class(uri, **options))
            await asyncio.to_thread(pool.wait)
            yield AsyncFace(EventLogSaver(pool, **settings))


async def failing_call(saver: Any) -> float:
    """How long a call lasts that does not reach the server, in seconds."""
    began = time.monotonic()
    with pytest.raises(ConnectionLostError):
        await saver.aget_tuple(config_of())
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool", "sync-custom"])
async def test_one_deadline_bounds_a_call_with_its_waits_for_the_pool(
    kind: str, uri: str, victim: PrivateServer
) -> None:
    """The pool would wait for longer, and each further try would wait again."""
    async with opened(kind, uri, timeout=LONG, retry=RetryPolicy(deadline=3.0)) as saver:
        await put(saver, config_of(), "1", {"x": 1})
        victim.stop()
        for _ in range(2):
            # Another try may begin just before the end, and looks for a connection that is there.
            assert await failing_call(saver) < LONG / 2
        victim.start()
        await until_read(saver)


@POOLS
async def test_a_saver_that_knows_that_the_server_is_away_fails_fast(
    kind: str, uri: str, victim: PrivateServer
) -> None:
    """And says since when; the first call after the server is back succeeds."""
    policy = RetryPolicy(deadline=LONG, away_deadline=0.0)
    async with opened(kind, uri, timeout=LONG, retry=policy) as saver:
        await put(saver, config_of(), "1", {"x": 1})
        victim.stop()
        for _ in range(5):
            assert await failing_call(saver) < LONG / 2
        with pytest.raises(ConnectionLostError, match=r"cannot be reached, as was found \d+ s ago"):
            await saver.aget_tuple(config_of())
        victim.start()
        await until_read(saver)


@POOLS
async def test_a_pool_that_waits_longer_and_longer_reconnects_when_the_server_is_back(
    kind: str, uri: str, victim: PrivateServer
) -> None:
    """After half a minute, psycopg's pool has just begun to wait for half a minute more. It is full, so that it does
    not grow either. The server is there again: less than a few looks later, so are the calls."""
    away = float(os.environ.get("FAULT_SECONDS", 0)) or 34.0
    async with opened(kind, uri, retry=RetryPolicy(away_deadline=0.1)) as saver:
        await put(saver, config_of(), "1", {"x": 1})
        victim.stop()
        began = time.monotonic()
        while time.monotonic() < began + away:
            await failing_call(saver)
            await asyncio.sleep(0.5)
        victim.start()
        looks = 0
        while True:
            try:
                assert (await saver.aget_tuple(config_of())).checkpoint["channel_values"] == {"x": 1}
            except ConnectionLostError:
                looks += 1
                await asyncio.sleep(0.5)
            else:
                break
        # Without a look of the saver's own, it would be forty to sixty.
        assert looks < 20


async def until_read(saver: Any) -> None:
    """Read, with as many calls as it takes."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            found = await saver.aget_tuple(config_of())
        except ConnectionLostError:
            await asyncio.sleep(0.2)
        else:
            assert found.checkpoint["channel_values"] == {"x": 1}
            return
    raise AssertionError("the server is back, and the saver does not reach it")
