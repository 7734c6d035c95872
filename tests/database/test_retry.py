"""Trying again: what is repeated by itself, what is not, and that a repeat finds what an earlier try did."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from inspect import isawaitable, signature
from math import inf
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from eventlog.db.async_ import AsyncDriver
from eventlog.db.errors import translate
from eventlog.db.outage import CALL_BEGAN
from eventlog.db.query import Op, Query
from eventlog.db.retry import RetryPolicy
from eventlog.db.sync import Driver
from eventlog.errors import (
    ConnectionLostError,
    InvalidInputError,
    LogBusyError,
    PoolTimeoutError,
    ReadOnlyServerError,
    ServerFullError,
    StatementCanceledError,
)
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.adapters import POOLS, AsyncFace, open_saver
from tests.support.checkpoints import Tables, checkpoint_of, config_of, put
from tests.support.pooler import cancelling, direct
from tests.support.soundness import assert_sound

pytestmark = pytest.mark.portable

NEVER = RetryPolicy(attempts=1)
HANG_UP = (
    "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid()"
)


@asynccontextmanager
async def saver_on_a_pool(
    kind: str, uri: str, *, size: int, timeout: float = 120, pooling: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Any]:
    """A saver on a pool of exactly so many connections, with more options of the pool's, and the pool."""
    options: dict[str, Any] = {"min_size": size, "max_size": size, "timeout": timeout, **(pooling or {})}
    options |= {"kwargs": {"autocommit": True}, "open": False}
    if kind.startswith("async"):
        async with AsyncConnectionPool(uri, **options) as apool:
            yield AsyncEventLogSaver(apool, **settings), apool
        return
    with ConnectionPool(uri, **options) as pool:
        yield AsyncFace(EventLogSaver(pool, **settings)), pool


async def filled(pool: Any) -> None:
    """Wait until a pool has all its connections."""
    waited = pool.wait()
    if waited is not None:
        await waited


def test_invalid_retry_policies_are_refused() -> None:
    """Values out of range are refused, and the setting must be a policy."""
    for broken in ({"attempts": 0}, {"deadline": -1.0}, {"first_wait": 3.0, "longest_wait": 2.0}, {"tries": 3}):
        with pytest.raises(ValueError, match=r"attempts|deadline|longest_wait|tries"):
            RetryPolicy(**broken)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="setting 'retry'"):
        EventLogSaver(psycopg.Connection.__new__(psycopg.Connection), retry=5)


def test_no_try_begins_after_the_deadline() -> None:
    """Not even where the wait before it began earlier."""
    waits: list[float] = []

    def fail() -> None:
        raise ConnectionLostError

    policy = RetryPolicy(first_wait=2.0, longest_wait=2.0, deadline=1.0)
    for _ in range(20):
        with pytest.raises(ConnectionLostError):
            policy.retrying(lambda _: True).copy(sleep=waits.append)(fail)
    assert max(waits, default=0.0) < policy.deadline


@POOLS
async def test_appends_commit_when_a_pools_check_leaves_a_transaction_open(kind: str, database_uri: str) -> None:
    """A pool's check may begin one, without autocommit: what is appended in it is committed."""
    tables = Tables(database_uri)

    def check(conn: psycopg.Connection[Any]) -> None:
        conn.execute("select 1")

    async def acheck(conn: psycopg.AsyncConnection[Any]) -> None:
        await conn.execute("select 1")

    async with AsyncExitStack() as stack:
        saver: Any
        if kind == "async-pool":
            apool = AsyncConnectionPool(database_uri, min_size=1, check=acheck, open=False)
            saver = AsyncEventLogSaver(await stack.enter_async_context(apool))
        else:
            saver = AsyncFace(EventLogSaver(stack.enter_context(ConnectionPool(database_uri, min_size=1, check=check))))
        config = await put(saver, config_of(), "1", {"x": 1})
        await saver.aput_writes(config, [("x", 1)], "task")
        assert tables.one("select count(*) from {schema}.events") == 2
        assert (await saver.aget_tuple(config)).pending_writes == [("task", "x", 1)]


@POOLS
@pytest.mark.parametrize("size", [1, 8])
async def test_dead_pool_connections_are_replaced_without_a_retry(kind: str, size: int, database_uri: str) -> None:
    """They are found without asking the server, and without a try that fails: not even one attempt is used up."""
    async with saver_on_a_pool(kind, database_uri, size=size, retry=NEVER) as (saver, pool):
        config = config_of()
        for number in range(3):
            await filled(pool)
            Tables(database_uri).run(HANG_UP)
            for each in range(size):
                config = await put(saver, config, f"{number}{each}", {"x": number})
            assert (await saver.aget_tuple(config_of())).config == config
        assert (await saver.log.verify()).problems == []


@POOLS
async def test_appends_happen_once_while_connections_are_ended(kind: str, database_uri: str) -> None:
    """Connections are ended while statements run, again and again: nothing is lost, nothing is there twice."""
    is_over = threading.Event()

    def storm() -> None:
        with psycopg.connect(database_uri, autocommit=True, prepare_threshold=None) as conn:
            while not is_over.wait(0.05):
                conn.execute(HANG_UP)

    async def work(saver: Any, thread_id: str) -> None:
        config = config_of(thread_id)
        for number in range(30):
            config = await put(saver, config, f"{number:02}", {"x": "y" * 1000 * number})
            await saver.aput_writes(config, [("x", number)], "task")

    # More tries than usual: a storm without a pause is no accident.
    retry = RetryPolicy(attempts=1000, longest_wait=0.1)
    async with saver_on_a_pool(kind, database_uri, size=4, retry=retry) as (saver, _):
        thread = threading.Thread(target=storm)
        thread.start()
        try:
            await asyncio.gather(*(work(saver, str(number)) for number in range(6)))
        finally:
            is_over.set()
            thread.join()
        tables = Tables(database_uri)
        counted = tables.rows(
            "select thread_id, count(*) filter (where kind = 1), count(*) filter (where kind = 2) "
            "from {schema}.events group by thread_id order by thread_id"
        )
        assert [row[:2] for row in counted] == [(str(number), 30) for number in range(6)]
        # The server may do what it was asked for after the client has lost it and looked: readers see one all the same.
        assert all(30 <= row[2] <= 32 for row in counted), counted
        for number in range(6):
            found = await saver.aget_tuple(config_of(str(number), "17"))
            assert found.pending_writes == [("task", "x", 17)]
        assert_sound(tables)


def lose_answers(monkeypatch: pytest.MonkeyPatch, statement: bytes, times: int) -> list[bytes]:
    """The server does the first so many of these statements, and the client loses the connection before it hears."""
    lost: list[bytes] = []

    def is_due(query: Any) -> bool:
        if len(lost) == times or statement not in query.statement:
            return False
        lost.append(query.statement)
        return True

    execute, aexecute = Driver._execute, AsyncDriver._execute

    def patched(self: Driver, conn: Any, query: Any) -> Any:
        rows = execute(self, conn, query)
        if is_due(query):
            conn.close()
            raise psycopg.OperationalError("the network is gone")
        return rows

    async def apatched(self: AsyncDriver, conn: Any, query: Any) -> Any:
        rows = await aexecute(self, conn, query)
        if is_due(query):
            await conn.close()
            raise psycopg.OperationalError("the network is gone")
        return rows

    monkeypatch.setattr(Driver, "_execute", patched)
    monkeypatch.setattr(AsyncDriver, "_execute", apatched)
    return lost


def lose_connections(monkeypatch: pytest.MonkeyPatch, statement: bytes) -> list[bytes]:
    """The first of these statements does not reach the server."""
    lost: list[bytes] = []
    execute, aexecute = Driver._execute, AsyncDriver._execute

    def is_due(query: Any) -> bool:
        if lost or statement not in query.statement:
            return False
        lost.append(query.statement)
        return True

    def patched(self: Driver, conn: Any, query: Any) -> Any:
        if is_due(query):
            conn.close()
        return execute(self, conn, query)

    async def apatched(self: AsyncDriver, conn: Any, query: Any) -> Any:
        if is_due(query):
            await conn.close()
        return await aexecute(self, conn, query)

    monkeypatch.setattr(Driver, "_execute", patched)
    monkeypatch.setattr(AsyncDriver, "_execute", apatched)
    return lost


@POOLS
@pytest.mark.parametrize("times", [1, 3])
async def test_an_append_with_a_lost_answer_is_found_by_the_retry(
    kind: str, times: int, database_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A commit without an answer is found by the repeat: each event is there once."""
    tables = Tables(database_uri)
    async with saver_on_a_pool(kind, database_uri, size=2) as (saver, _):
        lost = lose_answers(monkeypatch, b"append_checkpoint_v1", times)
        config = await put(saver, config_of(), "1", {"x": 1})
        assert len(lost) == times
        lost = lose_answers(monkeypatch, b"append_writes_v1", times)
        await saver.aput_writes(config, [("x", 1), ("__error__", "broken")], "task", "path")
        assert len(lost) == 1
        assert tables.rows("select kind, count(*) from {schema}.events group by kind order by kind") == [(1, 1), (2, 1)]
        found = await saver.aget_tuple(config_of())
        assert found.pending_writes == [("task", "__error__", "broken"), ("task", "x", 1)]
    logged = [record for record in caplog.records if getattr(record, "event", "").startswith("eventlog.retr")]
    assert [record.levelno for record in logged] == [logging.WARNING] * (times + 1)
    first = logged[0]
    # All of it is in the message, which logging's plain formatter shows.
    assert re.fullmatch(
        r"eventlog\.retrying error='ConnectionLostError' reason=['\"].*connection .* lost.*['\"] "
        r"attempt=2 attempts=8 wait_seconds=0\.\d+ thread_id='1' checkpoint_ns=''",
        first.getMessage(),
    ), first.getMessage()


@POOLS
async def test_special_writes_that_differ_are_no_repeat(
    kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeat of special writes that differ from those before is no repeat: the last counts."""
    tables = Tables(database_uri)
    async with saver_on_a_pool(kind, database_uri, size=2) as (saver, _):
        config = await put(saver, config_of(), "1", {})
        await saver.aput_writes(config, [("__resume__", "first")], "task")
        lose_answers(monkeypatch, b"append_writes_v1", 1)
        await saver.aput_writes(config, [("__resume__", "second")], "task")
        found = await saver.aget_tuple(config)
        assert found.pending_writes == [("task", "__resume__", "second")]
        assert tables.one("select count(*) from {schema}.events where kind = 2") == 2


@POOLS
async def test_writes_from_an_iterator_are_retried_whole(
    kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iterator is no sequence, but the repeat finds in it what the first try did."""
    async with saver_on_a_pool(kind, database_uri, size=2) as (saver, _):
        config = await put(saver, config_of(), "1", {})
        assert (await saver.aget_tuple(config)).pending_writes == []
        lost = lose_connections(monkeypatch, b"append_writes_v1")
        await saver.aput_writes(config, iter([("x", 1), ("y", 2)]), "task")
        assert lost
        assert (await saver.aget_tuple(config)).pending_writes == [("task", "x", 1), ("task", "y", 2)]


@POOLS
async def test_batched_writes_with_a_lost_answer_are_each_found_by_the_retry(
    kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes that went together hear together that they were lost, and each looks for its own."""
    tables = Tables(database_uri)
    async with saver_on_a_pool(kind, database_uri, size=4) as (saver, _):
        config = await put(saver, config_of(), "1", {})
        lost = lose_answers(monkeypatch, b"append_together_v1", 2)
        await asyncio.gather(*(saver.aput_writes(config, [("x", n)], f"task {n:02}") for n in range(24)))
        assert lost
        found = await saver.aget_tuple(config)
        assert sorted(found.pending_writes) == [(f"task {n:02}", "x", n) for n in range(24)]
        assert tables.one("select count(*) from {schema}.events where kind = 2") == 24
        assert_sound(tables)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_serialization_failures_are_retried(kind: str, isolation: str, database_uri: str) -> None:
    """Appends to one stream from several savers, with a default isolation level under which they collide."""
    tables = Tables(database_uri)
    user = tables.one("select current_database()")
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute(
            psycopg.sql.SQL("alter database {} set default_transaction_isolation = {}").format(
                psycopg.sql.Identifier(user), isolation
            )
        )

    async def work(saver: Any, number: int) -> None:
        for step in range(8):
            await put(saver, config_of(), f"{number}{step}", {"x": step})

    retry = RetryPolicy(attempts=100, longest_wait=0.2)
    async with (
        open_saver(kind, database_uri, retry=retry) as one,
        open_saver(kind, database_uri, retry=retry) as two,
        open_saver(kind, database_uri, retry=retry) as three,
    ):
        await asyncio.gather(*(work(saver, number) for number, saver in enumerate((one, two, three))))
        assert tables.one("select count(*) from {schema}.events") == 24
        assert (await one.log.verify()).problems == []


async def test_nothing_is_retried_in_the_users_own_transaction(kind: str, database_uri: str) -> None:
    """There nothing is tried again: the transaction has failed as a whole, and only the user can begin again."""
    if "connection" not in kind:
        kind = kind.replace(kind.split("-")[1], "connection")
    with psycopg.connect(database_uri, autocommit=True) as other:
        async with open_saver(kind, database_uri, retry=RetryPolicy(attempts=3)) as saver:
            await put(saver, config_of(), "1", {})
            conn = (saver.sync if isinstance(saver, AsyncFace) else saver)._driver._conn
            for statement in ("begin isolation level repeatable read", "select 1 from eventlog.streams"):
                done = conn.execute(statement)
                if not isinstance(done, psycopg.Cursor):
                    await done
            other.execute("update eventlog.streams set updated_at = updated_at")
            with pytest.raises(LogBusyError, match="could not serialize"):
                await put(saver, config_of(), "2", {})


@POOLS
async def test_an_exhausted_pool_is_described_in_the_error(kind: str, database_uri: str) -> None:
    """The error says how many connections there are, how many idle, and who waits."""
    async with saver_on_a_pool(kind, database_uri, size=1, timeout=0.3) as (saver, pool):
        taken = pool.getconn()
        conn = taken if isinstance(taken, psycopg.Connection) else await taken
        says = r"1 of at most 1 connections open or being opened, 0 of them idle.*Raise max_size"
        with pytest.raises(PoolTimeoutError, match=says):
            await put(saver, config_of(), "1", {})
        back = pool.putconn(conn)
        if back is not None:
            await back
        await put(saver, config_of(), "1", {})


@POOLS
async def test_a_pool_without_a_server_fails_once_the_deadline_is_over(kind: str) -> None:
    """A pool that never got a connection: the error says that connecting failed, once the deadline is over."""
    uri = "postgresql://postgres@127.0.0.1:1/none"
    pool: Any
    if kind.startswith("async"):
        async with AsyncConnectionPool(uri, min_size=1, timeout=0.3, open=False) as pool:
            while not pool.get_stats().get("connections_errors"):
                await asyncio.sleep(0.01)
            saver = AsyncEventLogSaver(pool, retry=RetryPolicy(deadline=0.5))
            with pytest.raises(ConnectionLostError, match=r"cannot be reached.*attempts to connect failed"):
                await saver.aget_tuple(config_of())
        return
    with ConnectionPool(uri, min_size=1, timeout=0.3, open=False) as pool:
        while not pool.get_stats().get("connections_errors"):
            await asyncio.sleep(0.01)
        sync = EventLogSaver(pool, retry=RetryPolicy(deadline=0.5))
        with pytest.raises(ConnectionLostError, match=r"cannot be reached.*attempts to connect failed"):
            await asyncio.to_thread(sync.get_tuple, config_of())


async def test_statement_timeouts_are_not_retried(kind: str, database_uri: str) -> None:
    """The user's own limit is not stretched by trying again, and nothing of the statement stays."""
    uri = direct(database_uri) + "&options=-c%20statement_timeout%3D200"  # PgBouncer passes on no options
    with psycopg.connect(database_uri) as blocker:
        async with open_saver(kind, uri) as saver, open_saver(kind, direct(database_uri)) as patient:
            await put(patient, config_of(), "1", {})
            blocker.execute("select 1 from eventlog.streams for update")
            with pytest.raises(StatementCanceledError, match="statement timeout"):
                await put(saver, config_of(), "2", {})
            blocker.rollback()
            stored = None
            while stored is None:
                # On a machine with other work it may take too long without a lock as well.
                with suppress(StatementCanceledError):
                    stored = await put(saver, config_of(), "2", {})
            assert stored["configurable"]["checkpoint_id"] == "2"
            assert Tables(database_uri).one("select count(*) from {schema}.events") == 2


async def test_a_read_only_server_refuses_writes_without_a_retry(kind: str, database_uri: str) -> None:
    """Reads work, writes say why they do not, and nothing is tried again in vain."""
    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of(), "1", {})
    uri = direct(database_uri) + "&options=-c%20default_transaction_read_only%3Don"
    async with open_saver(kind, uri) as saver:
        assert (await saver.aget_tuple(config_of())).config["configurable"]["checkpoint_id"] == "1"
        with pytest.raises(ReadOnlyServerError, match="default_transaction_read_only") as caught:
            await put(saver, config_of(), "2", {})
        assert not caught.value.is_standby
        with pytest.raises(ReadOnlyServerError):
            await saver.adelete_thread("1")


def test_a_full_server_raises_one_class_of_errors() -> None:
    """Disk, memory, connections: one class of errors, which says that nothing was written."""
    for full in (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory, psycopg.errors.TooManyConnections):
        assert isinstance(translate(full("no space left on device")), ServerFullError)


@pytest.mark.parametrize("kind", ["async-pool", "async-connection", "async-string", "async-pipeline"])
@pytest.mark.parametrize("make", [put, None])
async def test_a_cancelled_call_leaves_nothing_behind(
    kind: str, make: Callable[..., Any] | None, database_uri: str
) -> None:
    """A call that is cancelled while the server works on it leaves nothing behind, and a connection that works."""
    database_uri = cancelling(database_uri)
    async with open_saver(kind, database_uri, **({"pool_max_size": 1} if kind == "async-string" else {})) as saver:
        config = await put(saver, config_of(), "1", {})
        tables = Tables(database_uri)
        for _ in range(5):
            with psycopg.connect(database_uri) as blocker:
                blocker.execute("select 1 from eventlog.streams for update")
                call = put(saver, config, "2", {"x": 1}) if make else saver.aput_writes(config, [("x", 1)], "task")
                task = asyncio.ensure_future(call)
                while not tables.one("select count(*) from pg_locks where not granted"):
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert tables.one("select count(*) from {schema}.events") == 1
            assert (await saver.aget_tuple(config_of())).config == config
        await put(saver, config, "2", {"x": 1})
        await saver.aput_writes(config, [("x", 1)], "task")
        assert tables.one("select count(*) from {schema}.events") == 3
        assert (await saver.log.verify()).problems == []


async def spin(seconds: float) -> None:
    """Let others go on for so long. A sleep of asyncio's takes a millisecond at least."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["async-pool", "async-connection"])
@pytest.mark.parametrize("autocommit", [True, False])
async def test_a_transaction_cancelled_at_any_moment_is_rolled_back(
    kind: str, autocommit: bool, database_uri: str
) -> None:
    """Of an operation in one transaction: while it waits for the connection, begins, works, or ends."""
    database_uri = cancelling(database_uri)
    connect: dict[str, Any] = {"autocommit": autocommit}
    async with AsyncExitStack() as stack:
        source: Any
        if kind == "async-pool":
            pool = AsyncConnectionPool(database_uri, min_size=1, max_size=1, kwargs=connect, open=False)
            source = await stack.enter_async_context(pool)
        else:
            source = await psycopg.AsyncConnection.connect(database_uri, **connect)
            await stack.enter_async_context(source)
        saver = AsyncEventLogSaver(source)
        cancelled = 0
        for moment in range(60):
            config = await saver.aput(config_of(), checkpoint_of(f"{moment:05}", {}, {}), {}, {})
            task = asyncio.ensure_future(saver.adelete_thread("1"))
            await spin(moment * 0.00005)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                cancelled += 1
                # It may have been over when it was told.
                if await saver.aget_tuple(config) is not None:
                    await saver.adelete_thread("1")
            assert await saver.aget_tuple(config) is None
        assert cancelled > 3


async def test_a_second_cancellation_leaves_no_open_transaction(database_uri: str) -> None:
    """Who cannot wait loses the connection perhaps. It is not left in an open transaction."""
    database_uri = cancelling(database_uri)
    for moment in range(40):
        async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as conn:
            saver = AsyncEventLogSaver(conn)
            await saver.aput(config_of(), checkpoint_of(f"{moment:05}", {}, {}), {}, {})
            task = asyncio.ensure_future(saver.adelete_thread("1"))
            await spin(moment * 0.00005)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert conn.closed or conn.info.transaction_status == TransactionStatus.IDLE
            if not conn.closed:
                await conn.commit()


@pytest.mark.skipif("close_returns" not in signature(ConnectionPool).parameters, reason="psycopg-pool 3.3 has it")
@POOLS
async def test_dead_connections_do_not_return_to_a_pool(kind: str, database_uri: str) -> None:
    """A dead connection does not come back."""
    uri = direct(database_uri)
    async with saver_on_a_pool(kind, uri, size=2, pooling={"close_returns": True}) as (saver, pool):
        await filled(pool)
        for number in range(3):
            await put(saver, config_of(), f"{number}", {})
            Tables(uri).rows(HANG_UP)
            await saver.adelete_thread("2")
        assert len([each async for each in saver.alist(config_of())]) == 3


@pytest.mark.parametrize("call", ["aget_tuple", "adelete_thread"])
async def test_a_connection_is_returned_despite_a_cancellation(call: str, database_uri: str) -> None:
    """The pool has it again all the same."""
    argument: Any = config_of() if call == "aget_tuple" else "1"
    returns, go = asyncio.Event(), asyncio.Event()

    class Slow(AsyncConnectionPool[psycopg.AsyncConnection[Any]]):
        async def putconn(self, conn: psycopg.AsyncConnection[Any]) -> None:
            returns.set()
            await go.wait()
            await super().putconn(conn)

    async with Slow(database_uri, min_size=1, max_size=1, timeout=120, open=False) as pool:
        saver = AsyncEventLogSaver(pool)
        task = asyncio.ensure_future(getattr(saver, call)(argument))
        await returns.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert await saver.aget_tuple(config_of()) is None


@POOLS
async def test_a_calls_later_queries_wait_only_for_what_is_left_of_its_deadline(kind: str, database_uri: str) -> None:
    """Each of them borrows a connection: together they wait no longer than the policy says."""
    async with open_saver(kind, database_uri) as saver:
        driver = saver._driver
        limits: list[float] = []

        def op() -> Op[None]:
            yield Query(b"select 1")
            limits.append(CALL_BEGAN.get())
            # As if the first query had waited for nearly all of it.
            CALL_BEGAN.set(limits[0] - driver._retry.deadline + 2)
            limits.append(next(driver._outage.waits()))

        began = time.monotonic()
        done = driver.run(op)
        if isawaitable(done):
            await done
        assert began <= limits[0] <= time.monotonic()
        assert 0 < limits[1] <= 2
        assert CALL_BEGAN.get() == inf


def test_a_call_waits_on_when_the_server_is_reached_as_its_wait_ends(database_uri: str) -> None:
    """The pool is about to have its connection: a wait as short as during the outage would fail for nothing."""
    with ConnectionPool(database_uri, min_size=1, timeout=30, open=True) as pool:
        outage = Driver(pool, retry=RetryPolicy(away_deadline=0.05))._outage
        assert outage is not None
        outage.found()
        waits = outage.waits()
        assert next(waits) <= 0.05
        time.sleep(0.06)
        outage.is_over()
        assert 20 < next(waits) <= 30


def test_a_wait_cut_short_by_an_outage_says_so_though_the_server_is_back(database_uri: str) -> None:
    """The server may be reached after the wait has ended, and before its error is explained: raising max_size, as
    a pool without a connection advises otherwise, would not have helped."""
    with ConnectionPool(database_uri, min_size=1, open=True) as pool:
        driver = Driver(pool, retry=RetryPolicy(away_deadline=0.05))
        assert driver._outage is not None
        driver._outage.found()
        waits = driver._outage.waits()
        time.sleep(next(waits) + 0.01)
        with pytest.raises(PoolTimeout) as caught:
            next(waits)
        driver._outage.is_over()
        with pytest.raises(ConnectionLostError, match=r"as was found \d+ s ago"):
            raise driver._error(caught.value)
