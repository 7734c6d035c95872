"""Drivers that trace and measure, used if the setting ``telemetry`` is on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from time import perf_counter
from typing import Any, TypeVar

import psycopg

from eventlog.db.async_ import AsyncDriver
from eventlog.db.base import AsyncConn, Conn
from eventlog.db.connections import Connections
from eventlog.db.query import BatchableQuery, MakeOp, Op, Query, Rows, UserCallback
from eventlog.db.retry import RetryPolicy
from eventlog.db.sync import Driver
from eventlog.telemetry.instruments import pool_attributes
from eventlog.telemetry.operations import JointQuery, observed
from eventlog.telemetry.psycopg_instrumentation import TracedConnections, is_traced
from eventlog.telemetry.recorder import Recorder

__all__ = ["InstrumentedAsyncDriver", "InstrumentedDriver"]

T = TypeVar("T")


class _Instrumented:
    """The part that both drivers share."""

    _connections: Connections
    _recorder: Recorder
    _borrows: bool

    def _begin(self, query: Query, conn: Any) -> AbstractContextManager[None]:
        known = self._connections.get(conn) or self._connections.add(conn)
        members = query.members if isinstance(query, JointQuery) else ()
        # On a single connection, and in a transaction, each append runs alone.
        if members or (self._borrows and isinstance(query, BatchableQuery)):
            self._recorder.note_group(max(1, len(members)))
        return self._recorder.statement(conn, query.statement, members, has_span=not is_traced(known))


class InstrumentedDriver(_Instrumented, Driver):
    """As `Driver`.

    Args:
        recorder: what it reports with.
    """

    def __init__(
        self,
        conn: Conn,
        pipe: psycopg.Pipeline | None = None,
        *,
        retry: RetryPolicy | None = None,
        recorder: Recorder,
    ) -> None:
        super().__init__(conn, pipe, retry=retry)
        self._recorder, self._on_retry = recorder, recorder.note_retry
        self._connections = TracedConnections(psycopg.Cursor)
        if self._watch is not None:
            recorder.instruments.watch_pool(self._conn)
            self._session = self._measured(self._session)

    def _measured(
        self, session: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]
    ) -> Callable[[], AbstractContextManager[psycopg.Connection[Any]]]:
        """Loans of a pool's connections, with their times measured."""
        instruments, attributes = self._recorder.instruments, pool_attributes(self._conn)

        @contextmanager
        def measured() -> Iterator[psycopg.Connection[Any]]:
            began = perf_counter()
            with session() as conn:
                got = perf_counter()
                instruments.wait_time.record(got - began, attributes)
                try:
                    yield conn
                finally:
                    instruments.use_time.record(perf_counter() - got, attributes)

        return measured

    def _retried(self, run: Callable[[Op[T]], T], make_op: MakeOp[T], again: MakeOp[T], about: Any = None) -> T:
        recorder = self._recorder
        with recorder.operation():
            return super()._retried(run, observed(make_op, recorder), observed(again, recorder), about)

    def _execute(self, conn: psycopg.Connection[Any], query: Query) -> Rows:
        if isinstance(query, UserCallback):
            return super()._execute(conn, query)
        with self._begin(query, conn):
            return super()._execute(conn, query)


class InstrumentedAsyncDriver(_Instrumented, AsyncDriver):
    """As `AsyncDriver`.

    Args:
        recorder: what it reports with.
    """

    def __init__(
        self,
        conn: AsyncConn,
        pipe: psycopg.AsyncPipeline | None = None,
        *,
        retry: RetryPolicy | None = None,
        offload_bytes: int = 0,
        recorder: Recorder,
    ) -> None:
        super().__init__(conn, pipe, retry=retry, offload_bytes=offload_bytes)
        self._recorder, self._on_retry = recorder, recorder.note_retry
        self._connections = TracedConnections(psycopg.AsyncCursor)
        if self._watch is not None:
            recorder.instruments.watch_pool(self._conn)
            self._session = self._measured(self._session)

    def _measured(
        self, session: Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]]
    ) -> Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]]:
        """Loans of a pool's connections, with their times measured."""
        instruments, attributes = self._recorder.instruments, pool_attributes(self._conn)

        @asynccontextmanager
        async def measured() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
            began = perf_counter()
            async with session() as conn:
                got = perf_counter()
                instruments.wait_time.record(got - began, attributes)
                try:
                    yield conn
                finally:
                    instruments.use_time.record(perf_counter() - got, attributes)

        return measured

    async def _retried(
        self, run: Callable[[Op[T]], Awaitable[T]], make_op: MakeOp[T], again: MakeOp[T], about: Any = None
    ) -> T:
        recorder = self._recorder
        with recorder.operation():
            return await super()._retried(run, observed(make_op, recorder), observed(again, recorder), about)

    async def _execute(self, conn: psycopg.AsyncConnection[Any], query: Query) -> Rows:
        if isinstance(query, UserCallback):
            return await super()._execute(conn, query)
        with self._begin(query, conn):
            return await super()._execute(conn, query)
