"""The driver for psycopg's `Connection` and `ConnectionPool`. Only it and its twin, `eventlog.db.async_`, use
connections.

A driver takes the user's pool, connection, or connection in pipeline mode, and offers:

* `run`: each query of the operation is a transaction of its own. A pool's connection is borrowed for the query alone,
  so that nothing else waits while values are encoded or decoded.
* `run_atomic`: the whole operation is one transaction, on one connection.
* `run_script`: several operations, each in one transaction.
* `stream`: several operations, as `run`, and the items that they give.

psycopg's errors are thrown into the operation first; errors that it does not handle become `EventLogError`s here. A
`RetryPolicy` decides about retries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import copy_context
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg_pool import ConnectionPool, PoolTimeout

from eventlog.db.base import (
    IDLE,
    Conn,
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
from eventlog.db.connections import BACKEND_PID_QUERY, MOST_HELD_BYTES, disable_prepare
from eventlog.db.errors import RefusedError, read_only
from eventlog.db.forks import Process
from eventlog.db.group_commit import GroupCommit
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
from eventlog.errors import EventLogError, ReadOnlyServerError, StorageError
from eventlog.logger import lines_about

__all__ = ["Driver"]

T = TypeVar("T")


class Driver(DriverBase):
    """Runs operations over a psycopg connection or pool.

    Args:
        conn: a `Connection` or a `ConnectionPool`, with any row factory, in autocommit mode or not.
        pipe: the pipeline that the connection is in, if any.
        retry: how to retry an operation that lost a pool's connection, or that was undone in favour of another
            transaction, unless it was part of the user's own transaction.

    Raises:
        InvalidInputError: for an async connection, or a pool together with a pipeline.
    """

    def __init__(self, conn: Conn, pipe: psycopg.Pipeline | None = None, *, retry: RetryPolicy | None = None) -> None:
        super().__init__(conn, pipe, retry, is_async=False)
        self._group_commit = GroupCommit(self._run_alone)
        of_pool = self._loan if self._borrows else self._loan_of_users_pool
        self._session: Callable[[], AbstractContextManager[psycopg.Connection[Any]]] = (
            self._only_connection if self._watch is None else of_pool
        )
        # A transaction block belongs to one thread at a time.
        self._lock = threading.RLock()

    def run(
        self,
        make_op: MakeOp[T],
        *,
        again: MakeOp[T] | None = None,
        weight: Callable[[], int] | None = None,
        about: Any = None,
    ) -> T:
        """Run an operation, each query in a transaction of its own.

        Args:
            again: how to restart it if an earlier try was lost on its way and may have been done: with a check. By
                default as the first try.
            weight: returns the bytes that the operation encodes or decodes in addition to those from the database. Only
                the async driver uses it: it runs large ones off the event loop.
            about: the subject of the call. Log lines about retries have the fields that `fields_of` derives from it.
        """
        return self._retried(self._run, make_op, again or make_op, about)

    def run_atomic(self, make_op: MakeOp[T]) -> T:
        """Run an operation in one transaction (a savepoint, if the connection is in one)."""
        return self._retried(self._run_atomic, make_op, make_op)

    def run_script(self, script: Script[T], stop: threading.Event | None = None) -> T:
        """Run a script: each of its operations in one transaction. Once `stop` is set, it takes no further step."""
        try:
            step = advance(next, script)
            while True:
                if stop is not None and stop.is_set():
                    raise CancelledError
                result = None
                try:
                    if isinstance(step, Pause):
                        _pause(step)
                    elif isinstance(step, Parallel):
                        result = self._run_parallel(step)
                    else:
                        result = self.run_atomic(step)
                except EventLogError as exc:
                    step = advance(script.throw, exc)
                else:
                    step = advance(script.send, result)
        except OperationResult as done:
            return done.value  # type: ignore[no-any-return]

    def stream(self, steps: Steps[T]) -> Generator[T, None, None]:
        """All items of some steps, with their waits. The steps' own validation runs at once."""
        return self._stream(next(steps, []), steps)

    def _stream(self, step: Any, steps: Steps[T]) -> Generator[T, None, None]:
        try:
            while True:
                answer = None
                if isinstance(step, list):
                    yield from step
                elif isinstance(step, Pause):
                    _pause(step)
                else:
                    answer = self.run(step.make_op if isinstance(step, Weighed) else step)
                step = advance(steps.send, answer)
        except OperationResult:
            return

    def _run_parallel(self, parallel: Parallel) -> list[Any]:
        results = dict.fromkeys(range(len(parallel.scripts)))
        stop = threading.Event()
        with ThreadPoolExecutor(workers(self._conn, parallel), thread_name_prefix="eventlog") as executor:
            under_way = {
                # Each in a context of its own, in which the caller's span is current.
                executor.submit(copy_context().run, self.run_script, each, stop): n
                for n, each in enumerate(parallel.scripts)
            }
            try:
                for done in as_completed(under_way):
                    number = under_way[done]
                    results[number] = done.result()
                    if parallel.on_result is not None:
                        parallel.on_result(number, results[number])
            except BaseException:
                stop.set()
                executor.shutdown(wait=False, cancel_futures=True)
                raise
        return list(results.values())

    def _retried(self, run: Callable[[Op[T]], T], make_op: MakeOp[T], again: MakeOp[T], about: Any = None) -> T:
        if self._process.made_after != Process.forks:
            self.check_process()
        began = time.monotonic()
        # Most calls succeed at once, and skip the cost of preparing for retries.
        was_idle = self._watch is not None or self._conn.pgconn.transaction_status == IDLE
        token = CALL_BEGAN.set(began)
        try:
            return run(make_op())
        except StorageError as exc:
            if not self._may_retry(exc, was_idle):
                raise
            failures: list[StorageError] = [exc]
            ends = self._note(exc, began)
        finally:
            CALL_BEGAN.reset(token)

        def once_more() -> T:
            # The first try is over: the policy counts it, and waits.
            if failures:
                raise failures.pop()
            token = CALL_BEGAN.set(began)
            try:
                return run(again())
            except StorageError as exc:
                self._note(exc, began)
                raise
            finally:
                CALL_BEGAN.reset(token)

        with lines_about(self._fields(about)):
            return self._retry.retrying(lambda exc: self._may_retry(exc, was_idle), ends, self._on_retry)(once_more)

    def _run(self, op: Op[T]) -> T:
        try:
            query = next(op)
            while True:
                try:
                    if self._borrows and isinstance(query, BatchableQuery):
                        rows = self._group_commit.run(query)
                    else:
                        rows = self._run_alone(query)
                except psycopg.Error as exc:
                    query = op.throw(exc)
                else:
                    query = op.send(rows)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except psycopg.Error as exc:
            raise self._error(exc) from exc

    def _run_atomic(self, op: Op[T]) -> T:
        try:
            with self._session() as conn, conn.transaction():
                try:
                    query = next(op)
                    while True:
                        query = op.send(self._execute(conn, query))
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
        except psycopg.Error as exc:
            give_up(op, exc, self._error(exc))

    def _run_alone(self, query: Query) -> Rows:
        with self._session() as conn:
            if conn.autocommit and conn.pgconn.transaction_status == IDLE:
                return self._execute(conn, query)  # A lone statement in autocommit mode is a transaction already.
            with conn.transaction():  # In a user's transaction, a savepoint.
                return self._execute(conn, query)

    @contextmanager
    def _loan(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection from the pool that is alive, as far as this side can tell.

        Like the pool's context manager, but without the commit or rollback at its end, which seldom has anything to do.
        """
        pool: ConnectionPool[Any] = self._conn
        outage = self._outage
        assert outage is not None
        while is_stale(
            conn := (
                pool.getconn() if time.monotonic() - CALL_BEGAN.get() < outage.spare else self._getconn_in_time(pool)
            )
        ):
            hang_up(conn)
            pool.putconn(conn)
            outage.suspect()
        try:
            if self._watch is not None and conn not in self._connections:
                self._connections.add(conn)
                self._watch.reset()
            yield conn
            # The pool's own check may have left a transaction open around it.
            if conn.pgconn.transaction_status != IDLE:
                conn.commit()
        except ReadOnlyServerError as exc:
            if exc.is_standby:
                hang_up(conn)  # The pool's next connection may lead to the primary.
            raise
        finally:
            pool.putconn(conn)

    @contextmanager
    def _loan_of_users_pool(self) -> Iterator[psycopg.Connection[Any]]:
        """Like `_loan`, but through the pool's own context manager: the user's class may run code at each loan."""
        assert self._outage is not None
        while True:
            with ExitStack() as stack:
                conn = self._enter_loan(stack)
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

    def _getconn_in_time(self, pool: ConnectionPool[Any]) -> psycopg.Connection[Any]:
        assert self._outage is not None
        waits = self._outage.waits()
        while True:
            seconds = next(waits)
            with suppress(PoolTimeout):  # The call may have time to ask again.
                conn: psycopg.Connection[Any] = pool.getconn(seconds)
                return conn

    def _enter_loan(self, stack: ExitStack) -> psycopg.Connection[Any]:
        """Borrow a connection of the user's own pool class, until the stack is left."""
        assert self._outage is not None
        pool: ConnectionPool[Any] = self._conn
        if time.monotonic() - CALL_BEGAN.get() < self._outage.spare or not self._has_timeout:
            return stack.enter_context(pool.connection())
        waits = self._outage.waits()
        while True:
            seconds = next(waits)
            with suppress(PoolTimeout):  # The call may have time to ask again.
                return stack.enter_context(pool.connection(timeout=seconds))

    @contextmanager
    def _only_connection(self) -> Iterator[psycopg.Connection[Any]]:
        """The user's connection, for one call at a time."""
        conn: psycopg.Connection[Any] = self._conn
        with self._lock:
            if self._pipe is not None and is_busy(conn):
                self._pipe.sync()
            try:
                check_transaction(conn)
                yield conn
            finally:
                # Ends the implicit transaction: until then nothing is committed, and an error stops the pipeline.
                if self._pipe is not None and not conn.closed:
                    self._pipe.sync()

    def _execute(self, conn: psycopg.Connection[Any], query: Query) -> Rows:
        if conn.pgconn.parameter_status(b"client_encoding") != b"UTF8":
            check_encoding(conn)
        known = self._connections.get(conn) or self._connections.add(conn)
        # No probe before a query without rows: it may be SET TRANSACTION, which must be a transaction's first
        # statement.
        if query.returns and known.is_direct is None and conn.prepare_threshold is not None:
            known.is_direct = False  # The probe itself is never prepared.
            self._connections.record_probe(conn, known, self._execute(conn, BACKEND_PID_QUERY))
        if isinstance(query, UserCallback):
            with disable_prepare(conn, known):
                query.function(conn)
            return []
        # A statement that fails or is interrupted leaves its cursor unusable.
        cursor = known.cursors.pop(query.statement, None) or self._connections.new_cursor(conn)
        prepare = None if known.is_direct else False  # None: psycopg decides by the connection's prepare_threshold.
        try:
            cursor.execute(query.statement, query.params, prepare=prepare)
            rows: Rows = cursor.fetchall() if query.returns else []
        except pg.ReadOnlySqlTransaction as exc:
            raise read_only(exc, is_standby=is_standby(conn)) from exc
        except pg.InsufficientPrivilege as exc:
            raise RefusedError(exc, conn, query.statement) from exc
        held = (query.params or (), *rows) if query.is_frequent else ()
        size = sum([len(value) for row in held for value in row if type(value) is bytes or type(value) is str])
        if query.is_frequent and size <= MOST_HELD_BYTES:
            known.cursors[query.statement] = cursor
        else:
            cursor.close()
        return rows


def _pause(pause: Pause) -> None:
    for seconds in pause.parts():
        time.sleep(seconds)
