"""The two drivers: they run operations over psycopg, and are the only code that touches a connection.

A driver takes what the user gave — a pool, a connection, a connection in pipeline mode — and offers:

* `run`: each query of the operation is a transaction of its own. A pool's connection is borrowed for the query alone,
  so that nothing else waits while values are encoded or decoded.
* `run_atomic`: the whole operation is one transaction, on one connection.
* `run_script`: several operations, each in one transaction.

psycopg's errors are thrown into the operation first; those that it does not handle become `EventLogError`s here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import psycopg
import tenacity
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.cursors import Cursors, size_of
from eventlog.errors import ConnectionLostError, EventLogError, InvalidInputError
from eventlog.operations import Call, MakeOp, Op, Pause, Query, Rows, Script, Together
from eventlog.translating import translate

__all__ = ["AsyncConn", "AsyncDriver", "Conn", "Driver"]

S = TypeVar("S")
T = TypeVar("T")

Conn: TypeAlias = "psycopg.Connection[Any] | ConnectionPool[Any]"
AsyncConn: TypeAlias = "psycopg.AsyncConnection[Any] | AsyncConnectionPool[Any]"


class _Done(Exception, Generic[T]):
    """An operation's result. A StopIteration cannot pass through a coroutine or a future."""

    def __init__(self, value: T) -> None:
        self.value = value


def _advance(step: Callable[..., S], *args: Any) -> S:
    try:
        return step(*args)
    except StopIteration as stop:
        raise _Done(stop.value) from None


def _give_up(op: Op[Any], exc: psycopg.Error) -> NoReturn:
    """The transaction is over: all that the operation can still do is to say what the error means."""
    with suppress(psycopg.Error, StopIteration):
        op.throw(exc)
    op.close()
    raise translate(exc) from exc


def _retries(attempts: int) -> dict[str, Any]:
    """Appends are idempotent and reads change nothing, so an operation whose connection died can start again."""
    return {
        "retry": tenacity.retry_if_exception_type(ConnectionLostError),
        "stop": tenacity.stop_after_attempt(attempts),
        "wait": tenacity.wait_random_exponential(multiplier=0.05, max=2),
        "reraise": True,
    }


def _wrong_kind(given: object, wanted: str, instead: str) -> InvalidInputError:
    return InvalidInputError(f"{type(given).__name__} given where {wanted} is needed: {instead}")


class Driver:
    """Runs operations over a psycopg connection or pool.

    Args:
        conn: a `Connection` or a `ConnectionPool`, with any row factory, in autocommit mode or not.
        pipe: the pipeline that the connection is in, if any.
        attempts: how often an operation is tried on a pool whose connections turn out to be dead.

    Raises:
        InvalidInputError: for an async connection, or a pool together with a pipeline.
    """

    def __init__(self, conn: Conn, pipe: psycopg.Pipeline | None = None, *, attempts: int = 1) -> None:
        if isinstance(conn, (psycopg.AsyncConnection, AsyncConnectionPool)):
            raise _wrong_kind(conn, "a Connection or ConnectionPool", "use AsyncEventLogSaver")
        if not isinstance(conn, (psycopg.Connection, ConnectionPool)):
            raise _wrong_kind(conn, "a Connection or ConnectionPool", "or use from_conn_string()")
        if pipe is not None and isinstance(conn, ConnectionPool):
            raise InvalidInputError("a pipeline belongs to one connection: give a Connection, not a pool, with pipe")
        self._conn = conn
        self._pipe = pipe
        self._attempts = attempts if isinstance(conn, ConnectionPool) else 1
        # A pool of the user's own class may do something at each loan.
        self._borrows = isinstance(conn, ConnectionPool) and type(conn).connection is ConnectionPool.connection
        self._cursors = Cursors(psycopg.Cursor)
        # A transaction block belongs to one thread at a time.
        self._lock: AbstractContextManager[Any] = (
            threading.RLock() if isinstance(conn, psycopg.Connection) else nullcontext()
        )

    def run(self, make_op: MakeOp[T]) -> T:
        """Run an operation, each query in a transaction of its own."""
        return self._retried(lambda: self._run(make_op()))

    def run_atomic(self, make_op: MakeOp[T]) -> T:
        """Run an operation in one transaction (a savepoint, if the connection is in one)."""
        return self._retried(lambda: self._run_atomic(make_op()))

    def run_script(self, script: Script[T]) -> T:
        """Run a script: each of its operations in one transaction."""
        try:
            step = _advance(next, script)
            while True:
                result = None
                try:
                    if isinstance(step, Pause):
                        time.sleep(step.seconds)
                    elif isinstance(step, Together):
                        result = self._run_together(step)
                    else:
                        result = self.run_atomic(step)
                except EventLogError as exc:
                    step = _advance(script.throw, exc)
                else:
                    step = _advance(script.send, result)
        except _Done as done:
            return done.value  # type: ignore[no-any-return]

    def _run_together(self, together: Together) -> list[Any]:
        results = dict.fromkeys(range(len(together.make_ops)))
        with ThreadPoolExecutor(_workers(self._conn, together), thread_name_prefix="eventlog") as executor:
            under_way = {executor.submit(self.run_atomic, each): n for n, each in enumerate(together.make_ops)}
            try:
                for done in as_completed(under_way):
                    number = under_way[done]
                    results[number] = done.result()
                    if together.on_result is not None:
                        together.on_result(number, results[number])
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
        return list(results.values())

    def _retried(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ConnectionLostError:
            if self._attempts == 1:
                raise
        return tenacity.Retrying(**_retries(self._attempts - 1))(call)

    def _run(self, op: Op[T]) -> T:
        try:
            query = _advance(next, op)
            while True:
                try:
                    rows = self._run_alone(query)
                except psycopg.Error as exc:
                    query = _advance(op.throw, exc)
                else:
                    query = _advance(op.send, rows)
        except _Done as done:
            return done.value  # type: ignore[no-any-return]
        except psycopg.Error as exc:
            raise translate(exc) from exc

    def _run_atomic(self, op: Op[T]) -> T:
        try:
            with self._session() as conn, conn.transaction():
                try:
                    query = _advance(next, op)
                    while True:
                        query = _advance(op.send, self._execute(conn, query))
                except _Done as done:
                    return done.value  # type: ignore[no-any-return]
        except psycopg.Error as exc:
            _give_up(op, exc)

    def _run_alone(self, query: Query) -> Rows:
        if not self._borrows:
            with self._session() as conn, self._transaction(conn):
                return self._execute(conn, query)
        # As the pool's context manager, but for the commit or rollback at its end, of which there is nothing left here.
        conn = self._conn.getconn()  # type: ignore[union-attr]
        try:
            with self._transaction(conn):
                return self._execute(conn, query)
        finally:
            self._conn.putconn(conn)  # type: ignore[union-attr]

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        if isinstance(self._conn, ConnectionPool):
            with self._conn.connection() as conn:
                yield conn
            return
        with self._lock:
            if self._pipe is not None and _is_busy(self._conn):
                self._pipe.sync()
            try:
                yield self._conn
            finally:
                # Ends the implicit transaction: until then nothing is committed, and an error stops the pipeline.
                if self._pipe is not None and not self._conn.closed:
                    self._pipe.sync()

    def _transaction(self, conn: psycopg.Connection[Any]) -> AbstractContextManager[Any]:
        """A lone statement in autocommit mode is a transaction already. In a user's transaction it is a savepoint."""
        return nullcontext() if conn.autocommit and _is_idle(conn) else conn.transaction()

    def _execute(self, conn: psycopg.Connection[Any], query: Query) -> Rows:
        _check_encoding(conn)
        if isinstance(query, Call):
            query.function(conn)
            return []
        cursor = self._cursors.take(conn, query)
        cursor.execute(query.statement, query.params)
        rows = cursor.fetchall() if query.returns else []
        if not self._cursors.give_back(conn, query, cursor, rows):
            cursor.close()
        return rows


class AsyncDriver:
    """Runs operations over a psycopg async connection or pool. Arguments and errors as `Driver`'s.

    Args:
        offload_bytes: results larger than this are processed in a worker thread, off the event loop.
    """

    def __init__(
        self, conn: AsyncConn, pipe: psycopg.AsyncPipeline | None = None, *, attempts: int = 1, offload_bytes: int = 0
    ) -> None:
        if isinstance(conn, (psycopg.Connection, ConnectionPool)):
            raise _wrong_kind(conn, "an AsyncConnection or AsyncConnectionPool", "use EventLogSaver")
        if not isinstance(conn, (psycopg.AsyncConnection, AsyncConnectionPool)):
            raise _wrong_kind(conn, "an AsyncConnection or AsyncConnectionPool", "or use from_conn_string()")
        if pipe is not None and isinstance(conn, AsyncConnectionPool):
            raise InvalidInputError(
                "a pipeline belongs to one connection: give an AsyncConnection, not a pool, with pipe"
            )
        self._conn = conn
        self._pipe = pipe
        self._attempts = attempts if isinstance(conn, AsyncConnectionPool) else 1
        self._offload_bytes = offload_bytes
        self._borrows = (
            isinstance(conn, AsyncConnectionPool) and type(conn).connection is AsyncConnectionPool.connection
        )
        self._cursors = Cursors(psycopg.AsyncCursor)
        self._lock: AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if isinstance(conn, psycopg.AsyncConnection) else nullcontext()
        )
        self._holder: asyncio.Task[Any] | None = None

    async def run(self, make_op: MakeOp[T], *, weight: int = 0) -> T:
        """Run an operation, each query in a transaction of its own.

        Args:
            weight: bytes that the operation will encode or decode beside what the database sends.
        """
        return await self._retried(lambda: self._run(make_op(), weight))

    async def run_atomic(self, make_op: MakeOp[T]) -> T:
        """Run an operation in one transaction (a savepoint, if the connection is in one)."""
        return await self._retried(lambda: self._run_atomic(make_op()))

    async def run_script(self, script: Script[T]) -> T:
        """Run a script: each of its operations in one transaction."""
        try:
            step = _advance(next, script)
            while True:
                result = None
                try:
                    if isinstance(step, Pause):
                        await asyncio.sleep(step.seconds)
                    elif isinstance(step, Together):
                        result = await self._run_together(step)
                    else:
                        result = await self.run_atomic(step)
                except EventLogError as exc:
                    step = _advance(script.throw, exc)
                else:
                    step = _advance(script.send, result)
        except _Done as done:
            return done.value  # type: ignore[no-any-return]

    async def _run_together(self, together: Together) -> list[Any]:
        slots = asyncio.Semaphore(_workers(self._conn, together))

        async def one(number: int, make_op: MakeOp[Any]) -> Any:
            async with slots:
                result = await self.run_atomic(make_op)
            if together.on_result is not None:
                together.on_result(number, result)
            return result

        under_way = [asyncio.ensure_future(one(n, each)) for n, each in enumerate(together.make_ops)]
        try:
            return await asyncio.gather(*under_way)
        finally:
            for each in under_way:
                each.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _retried(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except ConnectionLostError:
            if self._attempts == 1:
                raise

        async def again() -> T:
            return await call()

        return await tenacity.AsyncRetrying(**_retries(self._attempts - 1))(again)

    async def _run(self, op: Op[T], weight: int) -> T:
        try:
            query = await self._step(weight, next, op)
            while True:
                try:
                    rows = await self._run_alone(query)
                except psycopg.Error as exc:
                    query = await self._step(weight, op.throw, exc)
                else:
                    query = await self._step(weight + size_of(rows), op.send, rows)
        except _Done as done:
            return done.value  # type: ignore[no-any-return]
        except psycopg.Error as exc:
            raise translate(exc) from exc

    async def _run_atomic(self, op: Op[T]) -> T:
        try:
            async with self._session() as conn, conn.transaction():
                try:
                    query = await self._step(0, next, op)
                    while True:
                        rows = await self._execute(conn, query)
                        query = await self._step(size_of(rows), op.send, rows)
                except _Done as done:
                    return done.value  # type: ignore[no-any-return]
        except psycopg.Error as exc:
            _give_up(op, exc)

    async def _step(self, weight: int, step: Callable[..., Query], *args: Any) -> Query:
        if weight > self._offload_bytes:
            return await asyncio.to_thread(_advance, step, *args)
        return _advance(step, *args)

    async def _run_alone(self, query: Query) -> Rows:
        if not self._borrows:
            async with self._session() as conn, self._transaction(conn):
                return await self._execute(conn, query)
        conn = await self._conn.getconn()  # type: ignore[union-attr]
        try:
            async with self._transaction(conn):
                return await self._execute(conn, query)
        finally:
            await self._conn.putconn(conn)  # type: ignore[union-attr]

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        if isinstance(self._conn, AsyncConnectionPool):
            async with self._conn.connection() as conn:
                yield conn
            return
        # A projection may ask the saver for something, in its own transaction.
        if self._holder is not None and self._holder is asyncio.current_task():
            yield self._conn
            return
        async with self._lock:
            self._holder = asyncio.current_task()
            if self._pipe is not None and _is_busy(self._conn):
                await self._pipe.sync()
            try:
                yield self._conn
            finally:
                self._holder = None
                if self._pipe is not None and not self._conn.closed:
                    await self._pipe.sync()

    def _transaction(self, conn: psycopg.AsyncConnection[Any]) -> AbstractAsyncContextManager[Any]:
        return nullcontext() if conn.autocommit and _is_idle(conn) else conn.transaction()

    async def _execute(self, conn: psycopg.AsyncConnection[Any], query: Query) -> Rows:
        _check_encoding(conn)
        if isinstance(query, Call):
            await query.function(conn)
            return []
        cursor = self._cursors.take(conn, query)
        await cursor.execute(query.statement, query.params)
        rows = await cursor.fetchall() if query.returns else []
        if not self._cursors.give_back(conn, query, cursor, rows):
            await cursor.close()
        return rows


def _workers(conn: Conn | AsyncConn, together: Together) -> int:
    """A pool that has no connection left would let the others wait, and then fail."""
    most = conn.max_size if isinstance(conn, (ConnectionPool, AsyncConnectionPool)) else 1
    return max(1, min(together.workers, most))


def _is_idle(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE


def _check_encoding(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    encoding = conn.pgconn.parameter_status(b"client_encoding")
    if encoding is not None and encoding != b"UTF8":
        raise InvalidInputError(
            f"the connection's client_encoding is {encoding.decode()}, which cannot carry every text: use UTF8"
        )


def _is_busy(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether a pipeline has statements under way: until it is synced nobody knows if a transaction is open."""
    return conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
