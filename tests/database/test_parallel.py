"""Operations that a script runs side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.db.async_ import AsyncDriver
from eventlog.db.query import MakeOp, Op, Parallel, Query, Script, single
from eventlog.db.sync import Driver
from eventlog.errors import EventLogError, StorageError
from tests.support.pooler import cancelling

pytestmark = pytest.mark.portable

CONNECT: dict[str, Any] = {"autocommit": True}

Run = Callable[[Callable[[], Script[Any]]], Awaitable[Any]]


@pytest.fixture(params=["sync-pool", "async-pool", "sync-connection", "async-connection"])
async def driver(request: pytest.FixtureRequest, database_uri: str) -> AsyncIterator[tuple[str, Run]]:
    """Runs scripts; pools have three connections."""
    name: str = request.param
    database_uri = cancelling(database_uri)
    if name == "sync-pool":
        with ConnectionPool(database_uri, min_size=1, max_size=3, kwargs=CONNECT, open=True) as pool:
            yield name, lambda script: asyncio.to_thread(lambda: Driver(pool).run_script(script()))
    elif name == "sync-connection":
        with psycopg.connect(database_uri, autocommit=True) as conn:
            yield name, lambda script: asyncio.to_thread(lambda: Driver(conn).run_script(script()))
    elif name == "async-pool":
        async with AsyncConnectionPool(database_uri, min_size=1, max_size=3, kwargs=CONNECT, open=False) as apool:
            yield name, lambda script: AsyncDriver(apool).run_script(script())
    else:
        async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as aconn:
            yield name, lambda script: AsyncDriver(aconn).run_script(script())


class Busy:
    """How many operations are under way, at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.begun: list[int] = []

    def op(self, number: int, seconds: float = 0.02) -> Op[int]:
        """Takes a while; its result is its number."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.begun.append(number)
        yield Query(b"select pg_sleep(%s)", (seconds,))
        with self._lock:
            self._now -= 1
        return number


def fails(number: int) -> Op[int]:
    yield Query(b"select 1 / 0")
    return number


def script_of(make_ops: list[MakeOp[Any]], workers: int, on_result: Any = None) -> Script[list[Any]]:
    results: list[Any] = yield Parallel([single(each) for each in make_ops], workers, on_result)
    return results


async def test_results_keep_the_order_of_the_scripts(driver: tuple[str, Run]) -> None:
    """Whichever is done first; told of each as it is done."""
    busy, told = Busy(), []
    ops: list[MakeOp[Any]] = [partial(busy.op, number, 0.1 if number == 0 else 0.01) for number in range(6)]
    results = await driver[1](lambda: script_of(ops, 3, lambda number, result: told.append((number, result))))
    assert results == list(range(6))
    assert sorted(told) == [(number, number) for number in range(6)]
    if "pool" in driver[0]:
        assert told[0] != (0, 0)


async def test_no_scripts_give_no_results(driver: tuple[str, Run]) -> None:
    assert await driver[1](lambda: script_of([], 3)) == []


@pytest.mark.parametrize("workers", [1, 2, 100])
async def test_concurrency_is_bounded_by_the_limit_and_the_pool(driver: tuple[str, Run], workers: int) -> None:
    """As many as asked for, and not more than there are connections."""
    busy = Busy()
    ops: list[MakeOp[Any]] = [partial(busy.op, number, 0.05) for number in range(9)]
    await driver[1](lambda: script_of(ops, workers))
    connections = 3 if "pool" in driver[0] else 1
    # On a connection, the lock is the connection's: an operation may have begun, and wait for it.
    assert busy.most == min(workers, connections)


async def test_an_error_stops_scripts_that_have_not_begun(driver: tuple[str, Run]) -> None:
    """It reaches the script, which may go on; what had not begun does not."""
    busy = Busy()
    ops: list[MakeOp[Any]] = [partial(fails, 0), *(partial(busy.op, number) for number in range(1, 40))]

    def script() -> Script[str]:
        try:
            yield Parallel([single(each) for each in ops], 2)
        except StorageError as exc:
            more: list[int] = yield Parallel([single(partial(busy.op, 100))], 2)
            return f"{more} after {type(exc.__cause__).__name__}"
        raise AssertionError("no error")

    assert await driver[1](script) == "[100] after DivisionByZero"
    assert len(busy.begun) < 40
    with pytest.raises(StorageError):
        await driver[1](lambda: script_of(ops, 2))


async def test_an_error_of_the_callback_propagates_unchanged(driver: tuple[str, Run]) -> None:
    """It is the caller's own, and comes out as it is."""
    busy = Busy()

    def listen(number: int, result: Any) -> None:
        raise LookupError(number)

    with pytest.raises(LookupError):
        await driver[1](lambda: script_of([partial(busy.op, number) for number in range(20)], 2, listen))
    assert len(busy.begun) < 20


async def test_a_failed_script_undoes_nothing_of_the_others(driver: tuple[str, Run]) -> None:
    """One that fails undoes nothing of the others."""
    table = b"create table public.done (number int)"

    def put(number: int) -> Op[None]:
        yield Query(b"insert into public.done values (%s)", (number,), returns=False)
        if number == 5:
            yield Query(b"select 1 / 0")

    def script() -> Script[int]:
        yield lambda: iter_one(table)
        try:
            yield Parallel([single(partial(put, number)) for number in range(6)], 1)
        except EventLogError:
            rows: list[Any] = yield lambda: read()
            return len(rows)
        raise AssertionError("no error")

    assert await driver[1](script) == 5


def iter_one(statement: bytes) -> Op[None]:
    yield Query(statement, returns=False)


def read() -> Op[list[Any]]:
    return (yield Query(b"select number from public.done"))


@pytest.mark.parametrize("workers", [2, 3])
async def test_a_cancellation_stops_all_scripts_and_returns_connections(database_uri: str, workers: int) -> None:
    """Who awaits it gives up: what is under way is cancelled, what has not begun never does, connections come back."""
    busy = Busy()
    uri = cancelling(database_uri)
    async with AsyncConnectionPool(uri, min_size=1, max_size=3, kwargs=CONNECT, open=False) as pool:
        ops: list[MakeOp[Any]] = [partial(busy.op, number, 30) for number in range(10)]
        running = asyncio.ensure_future(AsyncDriver(pool).run_script(script_of(ops, workers)))
        while len(busy.begun) < workers:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(busy.begun) == workers
        quick = Busy()
        assert await AsyncDriver(pool).run_script(script_of([partial(quick.op, 1)], 3)) == [1]
