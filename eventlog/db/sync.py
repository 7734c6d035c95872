"""The driver for psycopg's `Connection` and `ConnectionPool`. Only it and its twin, `eventlog.db.async_`, touch one.

A driver takes what the user gave — a pool, a connection, a connection in pipeline mode — and offers:

* `run`: each query of the operation is a transaction of its own. A pool's connection is borrowed for the query alone,
  so that nothing else waits while values are encoded or decoded.
* `run_atomic`: the whole operation is one transaction, on one connection.
* `run_script`: several operations, each in one transaction.
* `stream`: several operations, as `run`, and the items that they give.

psycopg's errors are thrown into the operation first; those that it does not handle become `EventLogError`s here. What
may be tried again is, by a `RetryPolicy`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg_pool import ConnectionPool

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
from eventlog.db.group_commit import GroupCommit
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

__all__ = ["Driver"]

T = TypeVar("T")


class Driver(DriverBase):
    """Runs operations over a psycopg connection or pool.

    Args:
        conn: a `Connection` or a `ConnectionPool`, with any row factory, in autocommit mode or not.
        pipe: the pipeline that the connection is in, if any.
        retry: how an operation is tried again whose connection was lost, if it came from a pool, or whose transaction
            was undone for another one's sake, unless it was a part of the user's own.

    Raises:
        InvalidInputError: for an async connection, or a pool together with a pipeline.
    """

    def __init__(self, conn: Conn, pipe: psycopg.Pipeline | None = None, *, retry: RetryPolicy | None = None) -> None:
        super().__init__(conn, pipe, retry, is_async=False)
        self._group_commit = GroupCommit(self._run_alone)
        of_pool = self._loan if self._borrows else self._loan_of_users_pool
        self._session = self._only_connection if self._watch is None else of_pool
        # A transaction block belongs to one thread at a time.
        self._lock = threading.RLock()

    def run(self, make_op: MakeOp[T], *, again: MakeOp[T] | None = None, weight: Callable[[], int] | None = None) -> T:
        """Run an operation, each query in a transaction of its own.

        Args:
            again: how to start it when an earlier try was lost on its way, and may have been done: by looking. By
                default as at first.
            weight: tells the bytes that the operation encodes or decodes beside what the database sends. Only the
                async driver asks: it runs large ones off the event loop.
        """
        return self._retried(self._run, make_op, again or make_op)

    def run_atomic(self, make_op: MakeOp[T]) -> T:
        """Run an operation in one transaction (a savepoint, if the connection is in one)."""
        return self._retried(self._run_atomic, make_op, make_op)

    def run_script(self, script: Script[T], stop: threading.Event | None = None) -> T:
        """Run a script: each of its operations in one transaction. Once `stop` is set, its next step is not taken."""
        try:
            step = advance(next, script)
            while True:
                if stop is not None and stop.is_set():
                    raise CancelledError
                result = None
                try:
                    if isinstance(step, Pause):
                        time.sleep(step.seconds)
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
        """All items of some steps, with their waits. What the steps validate first, they validate at once."""
        return self._stream(next(steps, []), steps)

    def _stream(self, step: Any, steps: Steps[T]) -> Generator[T, None, None]:
        try:
            while True:
                answer = None
                if isinstance(step, list):
                    yield from step
                elif isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    answer = self.run(step.make_op if isinstance(step, Weighed) else step)
                step = advance(steps.send, answer)
        except OperationResult:
            return

    def _run_parallel(self, parallel: Parallel) -> list[Any]:
        results = dict.fromkeys(range(len(parallel.scripts)))
        stop = threading.Event()
        with ThreadPoolExecutor(workers(self._conn, parallel), thread_name_prefix="eventlog") as executor:
            under_way = {executor.submit(self.run_script, each, stop): n for n, each in enumerate(parallel.scripts)}
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

    def _retried(self, run: Callable[[Op[T]], T], make_op: MakeOp[T], again: MakeOp[T]) -> T:
        # Most calls succeed at once, and are spared what it costs to be ready for more.
        was_idle = self._watch is not None or self._conn.pgconn.transaction_status == IDLE
        try:
            return run(make_op())
        except StorageError as exc:
            if not self._may_retry(exc, was_idle):
                raise
            failures: list[StorageError] = [exc]

        def once_more() -> T:
            # The first try is over: the policy counts it, and waits.
            if failures:
                raise failures.pop()
            return run(again())

        return self._retry.retrying(lambda exc: self._may_retry(exc, was_idle))(once_more)

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
        """A connection of the pool that lives, as far as is known.

        As the pool's context manager, but for the commit or rollback at its end, which seldom have anything to do.
        """
        pool: ConnectionPool[Any] = self._conn
        while is_stale(conn := pool.getconn()):
            hang_up(conn)
            pool.putconn(conn)
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
                hang_up(conn)  # The pool's next may lead to the primary.
            raise
        finally:
            pool.putconn(conn)

    @contextmanager
    def _loan_of_users_pool(self) -> Iterator[psycopg.Connection[Any]]:
        """As `_loan`, through the pool's own context manager: the user's class may do something at each loan."""
        pool: ConnectionPool[Any] = self._conn
        while True:
            with pool.connection() as conn:
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

    @contextmanager
    def _only_connection(self) -> Iterator[psycopg.Connection[Any]]:
        """The user's connection, for one at a time."""
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
        # No probe before a query that returns nothing: it may be SET TRANSACTION, which must be a transaction's first.
        if query.returns and known.is_direct is None and conn.prepare_threshold is not None:
            known.is_direct = False  # The question itself is not prepared.
            self._connections.record_probe(conn, known, self._execute(conn, BACKEND_PID_QUERY))
        if isinstance(query, UserCallback):
            with disable_prepare(conn, known):
                query.function(conn)
            return []
        # A statement that fails or is interrupted takes its cursor along.
        cursor = known.cursors.pop(query.statement, None) or self._connections.new_cursor(conn)
        prepare = None if known.is_direct else False  # None: as the connection is set up.
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
