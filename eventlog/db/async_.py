"""The driver for psycopg's `AsyncConnection` and `AsyncConnectionPool`: the twin of `eventlog.db.sync`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.pq import PipelineStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from eventlog.db.base import (
    IDLE,
    AsyncConn,
    DriverBase,
    OperationResult,
    advance,
    check_encoding,
    check_transaction,
    give_up,
    is_busy,
    is_standby,
    workers,
)
from eventlog.db.connections import BACKEND_PID_QUERY, MOST_HELD_BYTES, disable_prepare, size_of
from eventlog.db.errors import RefusedError, read_only
from eventlog.db.forks import Process
from eventlog.db.group_commit import AsyncGroupCommit
from eventlog.db.outage import CALL_BEGAN
from eventlog.db.pool_health import hang_up, is_stale
from eventlog.db.query import (
    BatchableQuery,
    MakeOp,
    Op,
    Parallel,
    Pause,
    Query,
    Rows,
    Script,
    Steps,
    UserCallback,
    Weighed,
)
from eventlog.db.retry import RetryPolicy
from eventlog.errors import EventLogError, EventLoopError, ReadOnlyServerError, StorageError
from eventlog.logger import lines_about

__all__ = ["AsyncDriver"]

T = TypeVar("T")


class AsyncDriver(DriverBase):
    """Runs operations over a psycopg async connection or pool. Arguments and errors as `Driver`'s.

    Args:
        offload_bytes: results larger than this are processed in a worker thread, off the event loop.
    """

    def __init__(
        self,
        conn: AsyncConn,
        pipe: psycopg.AsyncPipeline | None = None,
        *,
        retry: RetryPolicy | None = None,
        offload_bytes: int = 0,
    ) -> None:
        super().__init__(conn, pipe, retry, is_async=True)
        self._offload_bytes = offload_bytes
        self._group_commit = AsyncGroupCommit(self._run_alone)
        of_pool = self._loan if self._borrows else self._loan_of_users_pool
        self._session: Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]] = (
            self._only_connection if self._watch is None else of_pool
        )
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop of its first call; before, the one in which it was created."""
        self._is_bound = False
        with suppress(RuntimeError):
            self.loop = asyncio.get_running_loop()

    async def run(
        self,
        make_op: MakeOp[T],
        *,
        again: MakeOp[T] | None = None,
        weight: Callable[[], int] | None = None,
        about: Any = None,
    ) -> T:
        """Run an operation, each query in a transaction of its own. Arguments as for `Driver.run`."""
        run = partial(self._run, weight=0 if weight is None else weight())
        return await self._retried(run, make_op, again or make_op, about)

    async def run_atomic(self, make_op: MakeOp[T]) -> T:
        """Run an operation in one transaction (a savepoint, if the connection is in one)."""
        return await self._retried(self._run_atomic, make_op, make_op)

    async def run_script(self, script: Script[T]) -> T:
        """Run a script: each of its operations in one transaction."""
        try:
            step = advance(next, script)
            while True:
                result = None
                try:
                    if isinstance(step, Pause):
                        await _pause(step)
                    elif isinstance(step, Parallel):
                        result = await self._run_parallel(step)
                    else:
                        result = await self.run_atomic(step)
                except EventLogError as exc:
                    step = advance(script.throw, exc)
                else:
                    step = advance(script.send, result)
        except OperationResult as done:
            return done.value  # type: ignore[no-any-return]

    def stream(self, steps: Steps[T]) -> AsyncGenerator[T, None]:
        """As `Driver.stream`."""
        return self._stream(next(steps, []), steps)

    async def _stream(self, step: Any, steps: Steps[T]) -> AsyncGenerator[T, None]:
        try:
            while True:
                answer = None
                if isinstance(step, list):
                    for item in step:
                        yield item
                elif isinstance(step, Pause):
                    await _pause(step)
                elif isinstance(step, Weighed):
                    answer = await self._retried(partial(self._run, weight=step.weight), step.make_op, step.make_op)
                else:
                    answer = await self.run(step)
                step = advance(steps.send, answer)
        except OperationResult:
            return

    async def _run_parallel(self, parallel: Parallel) -> list[Any]:
        slots = asyncio.Semaphore(workers(self._conn, parallel))

        async def one(number: int, script: Script[Any]) -> Any:
            async with slots:
                result = await self.run_script(script)
            if parallel.on_result is not None:
                parallel.on_result(number, result)
            return result

        under_way = [asyncio.ensure_future(one(n, each)) for n, each in enumerate(parallel.scripts)]
        try:
            return await asyncio.gather(*under_way)
        finally:
            for each in under_way:
                each.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self.loop:
            if self._is_bound:
                raise EventLoopError(
                    "the saver was used in another event loop before, and its connections belong to that one: open a "
                    "connection or pool and a saver in each event loop (with asyncio.run, in each run)"
                )
            self.loop = loop
        self._is_bound = True

    async def _retried(
        self, run: Callable[[Op[T]], Awaitable[T]], make_op: MakeOp[T], again: MakeOp[T], about: Any = None
    ) -> T:
        if self._process.made_after != Process.forks:
            self.check_process()
        self._bind(asyncio.get_running_loop())
        began = time.monotonic()
        was_idle = self._watch is not None or self._conn.pgconn.transaction_status == IDLE
        token = CALL_BEGAN.set(began)
        try:
            return await run(make_op())
        except StorageError as exc:
            if not self._may_retry(exc, was_idle):
                raise
            failures: list[StorageError] = [exc]
            ends = self._note(exc, began)
        finally:
            CALL_BEGAN.reset(token)

        async def once_more() -> T:
            if failures:
                raise failures.pop()
            token = CALL_BEGAN.set(began)
            try:
                return await run(again())
            except StorageError as exc:
                self._note(exc, began)
                raise
            finally:
                CALL_BEGAN.reset(token)

        with lines_about(self._fields(about)):
            retrying = self._retry.async_retrying(lambda exc: self._may_retry(exc, was_idle), ends, self._on_retry)
            return await retrying(once_more)

    async def _run(self, op: Op[T], weight: int) -> T:
        try:
            query = await self._step(weight, next, op)
            while True:
                try:
                    if self._borrows and isinstance(query, BatchableQuery):
                        rows = await self._group_commit.run(query)
                    else:
                        rows = await self._run_alone(query)
                except psycopg.Error as exc:
                    query = await self._step(weight, op.throw, exc)
                else:
                    query = await self._step(weight + query.weight + size_of(rows), op.send, rows)
        except OperationResult as done:
            return done.value  # type: ignore[no-any-return]
        except psycopg.Error as exc:
            raise self._error(exc) from exc

    async def _run_atomic(self, op: Op[T]) -> T:
        try:
            async with self._session() as conn, _block(conn):
                try:
                    query = await self._step(0, next, op)
                    while True:
                        rows = await self._execute(conn, query)
                        query = await self._step(size_of(rows), op.send, rows)
                except OperationResult as done:
                    return done.value  # type: ignore[no-any-return]
        except psycopg.Error as exc:
            give_up(op, exc, self._error(exc))

    async def _step(self, weight: int, step: Callable[..., Query], *args: Any) -> Query:
        if weight > self._offload_bytes:
            return await asyncio.to_thread(advance, step, *args)
        return advance(step, *args)

    async def _run_alone(self, query: Query) -> Rows:
        async with self._session() as conn:
            if conn.autocommit and conn.pgconn.transaction_status == IDLE:
                return await self._execute(conn, query)
            async with _block(conn):
                return await self._execute(conn, query)

    @asynccontextmanager
    async def _loan(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection from the pool that is alive, as far as this side can tell.

        Like the pool's context manager, but without the commit or rollback at its end, which seldom has anything to do.
        """
        pool: AsyncConnectionPool[Any] = self._conn
        outage = self._outage
        assert outage is not None
        while is_stale(
            conn := await (
                pool.getconn() if time.monotonic() - CALL_BEGAN.get() < outage.spare else self._getconn_in_time(pool)
            )
        ):
            hang_up(conn)
            await asyncio.shield(pool.putconn(conn))
            outage.suspect()
        try:
            if self._watch is not None and conn not in self._connections:
                self._connections.add(conn)
                self._watch.reset()
            yield conn
            # The pool's own check may have left a transaction open around it.
            if conn.pgconn.transaction_status != IDLE:
                await conn.commit()
        except ReadOnlyServerError as exc:
            if exc.is_standby:
                hang_up(conn)  # The pool's next connection may lead to the primary.
            raise
        finally:
            # If the call is cancelled while the pool takes a connection back, the connection would never return to the
            # pool.
            await asyncio.shield(pool.putconn(conn))

    @asynccontextmanager
    async def _loan_of_users_pool(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Like `_loan`, but through the pool's own context manager: the user's class may run code at each loan."""
        assert self._outage is not None
        while True:
            async with AsyncExitStack() as stack:
                conn = await self._enter_loan(stack)
                if is_stale(conn):
                    hang_up(conn)
                    self._outage.suspect()
                    continue
                try:
                    yield conn
                except ReadOnlyServerError as exc:
                    if exc.is_standby:
                        hang_up(conn)
                    raise
                return

    async def _getconn_in_time(self, pool: AsyncConnectionPool[Any]) -> psycopg.AsyncConnection[Any]:
        assert self._outage is not None
        waits = self._outage.waits()
        while True:
            seconds = next(waits)
            with suppress(PoolTimeout):  # The call may have time to ask again.
                conn: psycopg.AsyncConnection[Any] = await pool.getconn(seconds)
                return conn

    async def _enter_loan(self, stack: AsyncExitStack) -> psycopg.AsyncConnection[Any]:
        """Borrow a connection of the user's own pool class, until the stack is left."""
        assert self._outage is not None
        pool: AsyncConnectionPool[Any] = self._conn
        if time.monotonic() - CALL_BEGAN.get() < self._outage.spare or not self._has_timeout:
            return await stack.enter_async_context(pool.connection())
        waits = self._outage.waits()
        while True:
            seconds = next(waits)
            with suppress(PoolTimeout):  # The call may have time to ask again.
                return await stack.enter_async_context(pool.connection(timeout=seconds))

    @asynccontextmanager
    async def _only_connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """The user's connection, for one call at a time."""
        conn: psycopg.AsyncConnection[Any] = self._conn
        # A projection may call the saver in its own transaction.
        if self._holder is not None and self._holder is asyncio.current_task():
            yield conn
            return
        async with self._lock:
            self._holder = asyncio.current_task()
            if self._pipe is not None and is_busy(conn):
                await self._pipe.sync()
            try:
                check_transaction(conn)
                yield conn
            finally:
                self._holder = None
                if self._pipe is not None and not conn.closed:
                    await self._pipe.sync()

    async def _execute(self, conn: psycopg.AsyncConnection[Any], query: Query) -> Rows:
        if conn.pgconn.parameter_status(b"client_encoding") != b"UTF8":
            check_encoding(conn)
        known = self._connections.get(conn) or self._connections.add(conn)
        # No probe before a query without rows: it may be SET TRANSACTION, which must be a transaction's first
        # statement.
        if query.returns and known.is_direct is None and conn.prepare_threshold is not None:
            known.is_direct = False  # The probe itself is never prepared.
            self._connections.record_probe(conn, known, await self._execute(conn, BACKEND_PID_QUERY))
        if isinstance(query, UserCallback):
            with disable_prepare(conn, known):
                await query.function(conn)
            return []
        # A statement that fails or is interrupted leaves its cursor unusable.
        cursor = known.cursors.pop(query.statement, None) or self._connections.new_cursor(conn)
        prepare = None if known.is_direct else False  # None: psycopg decides by the connection's prepare_threshold.
        try:
            await cursor.execute(query.statement, query.params, prepare=prepare)
            rows: Rows = await cursor.fetchall() if query.returns else []
        except pg.ReadOnlySqlTransaction as exc:
            raise read_only(exc, is_standby=is_standby(conn)) from exc
        except pg.InsufficientPrivilege as exc:
            raise RefusedError(exc, conn, query.statement) from exc
        held = (query.params or (), *rows) if query.is_frequent else ()
        size = sum([len(value) for row in held for value in row if type(value) is bytes or type(value) is str])
        if query.is_frequent and size <= MOST_HELD_BYTES:
            known.cursors[query.statement] = cursor
        else:
            await cursor.close()
        return rows


async def _pause(pause: Pause) -> None:
    for seconds in pause.parts():
        await asyncio.sleep(seconds)


@asynccontextmanager
async def _block(conn: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
    """A transaction block that is also left if its beginning is interrupted: psycopg does that only since 3.3.7."""
    async with AsyncExitStack() as stack:
        if conn.info.pipeline_status != PipelineStatus.OFF:
            await stack.enter_async_context(conn.transaction())
        else:
            block = psycopg.AsyncTransaction(conn)
            try:
                await stack.enter_async_context(block)
            except BaseException:
                if _has_begun(block):
                    stack.push_async_exit(block)
                raise
        yield


def _has_begun(block: psycopg.AsyncTransaction) -> bool:
    if hasattr(block, "status"):
        return bool(block.status is block.Status.ACTIVE)
    return bool(getattr(block, "_entered", False))  # psycopg 3.2
