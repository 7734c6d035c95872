"""The driver for psycopg's `AsyncConnection` and `AsyncConnectionPool`: the twin of `eventlog.db.sync`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.pq import PipelineStatus
from psycopg_pool import AsyncConnectionPool

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
from eventlog.db.group_commit import AsyncGroupCommit
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
        self._session = self._only_connection if self._watch is None else of_pool
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop that it runs on: that of its first call; before, the one that it was made in."""
        self._is_bound = False
        with suppress(RuntimeError):
            self.loop = asyncio.get_running_loop()

    async def run(
        self, make_op: MakeOp[T], *, again: MakeOp[T] | None = None, weight: Callable[[], int] | None = None
    ) -> T:
        """Run an operation, each query in a transaction of its own. Arguments as for `Driver.run`."""
        run = partial(self._run, weight=0 if weight is None else weight())
        return await self._retried(run, make_op, again or make_op)

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
                        await asyncio.sleep(step.seconds)
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
                    await asyncio.sleep(step.seconds)
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

    async def _retried(self, run: Callable[[Op[T]], Awaitable[T]], make_op: MakeOp[T], again: MakeOp[T]) -> T:
        self._bind(asyncio.get_running_loop())
        was_idle = self._watch is not None or self._conn.pgconn.transaction_status == IDLE
        try:
            return await run(make_op())
        except StorageError as exc:
            if not self._may_retry(exc, was_idle):
                raise
            failures: list[StorageError] = [exc]

        async def once_more() -> T:
            if failures:
                raise failures.pop()
            return await run(again())

        return await self._retry.async_retrying(lambda exc: self._may_retry(exc, was_idle))(once_more)

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
        """A connection of the pool that lives, as far as is known.

        As the pool's context manager, but for the commit or rollback at its end, which seldom have anything to do.
        """
        pool: AsyncConnectionPool[Any] = self._conn
        while is_stale(conn := await pool.getconn()):
            hang_up(conn)
            await asyncio.shield(pool.putconn(conn))
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
                hang_up(conn)  # The pool's next may lead to the primary.
            raise
        finally:
            # Cancelled while the pool takes a connection back, the call would take it along for ever.
            await asyncio.shield(pool.putconn(conn))

    @asynccontextmanager
    async def _loan_of_users_pool(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """As `_loan`, through the pool's own context manager: the user's class may do something at each loan."""
        pool: AsyncConnectionPool[Any] = self._conn
        while True:
            async with pool.connection() as conn:
                if is_stale(conn):
                    hang_up(conn)
                    continue
                try:
                    yield conn
                except ReadOnlyServerError as exc:
                    if exc.is_standby:
                        hang_up(conn)
                    raise
                return

    @asynccontextmanager
    async def _only_connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """The user's connection, for one at a time."""
        conn: psycopg.AsyncConnection[Any] = self._conn
        # A projection may ask the saver for something, in its own transaction.
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
        # No probe before a query that returns nothing: it may be SET TRANSACTION, which must be a transaction's first.
        if query.returns and known.is_direct is None and conn.prepare_threshold is not None:
            known.is_direct = False  # The question itself is not prepared.
            self._connections.record_probe(conn, known, await self._execute(conn, BACKEND_PID_QUERY))
        if isinstance(query, UserCallback):
            with disable_prepare(conn, known):
                await query.function(conn)
            return []
        # A statement that fails or is interrupted takes its cursor along.
        cursor = known.cursors.pop(query.statement, None) or self._connections.new_cursor(conn)
        prepare = None if known.is_direct else False  # None: as the connection is set up.
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


@asynccontextmanager
async def _block(conn: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
    """A transaction block, which is left again where its beginning is interrupted: psycopg does so since 3.3.7 only."""
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
