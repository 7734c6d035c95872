"""The part that the sync and the async driver share: stepping through operations, and checking connections."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.db.connections import Connections
from eventlog.db.errors import translate
from eventlog.db.forks import Process
from eventlog.db.pool_health import POOL_ERRORS, PoolWatch, is_stale
from eventlog.db.query import Op, Parallel
from eventlog.db.retry import OnRetry, RetryPolicy, is_conflict, is_node_lost, wants_another_connection
from eventlog.errors import EventLogError, ForkedProcessError, InvalidInputError, StorageError
from eventlog.logger import About

__all__ = [
    "IDLE",
    "AsyncConn",
    "Conn",
    "DriverBase",
    "OperationResult",
    "advance",
    "check_encoding",
    "check_transaction",
    "give_up",
    "is_busy",
    "is_standby",
    "workers",
]

S = TypeVar("S")
T = TypeVar("T")

Conn: TypeAlias = "psycopg.Connection[Any] | ConnectionPool[Any]"
AsyncConn: TypeAlias = "psycopg.AsyncConnection[Any] | AsyncConnectionPool[Any]"

_SYNC = (psycopg.Connection, ConnectionPool)
_ASYNC = (psycopg.AsyncConnection, AsyncConnectionPool)

#: The transaction status of a connection without an open transaction.
IDLE = psycopg.pq.TransactionStatus.IDLE


class OperationResult(Exception, Generic[T]):
    """An operation's result. A StopIteration cannot pass through a coroutine or a future."""

    def __init__(self, value: T) -> None:
        self.value = value


def advance(step: Callable[..., S], *args: Any) -> S:
    """Step through a generator. Raises `OperationResult` with its result at its end."""
    try:
        return step(*args)
    except StopIteration as stop:
        raise OperationResult(stop.value) from None


def give_up(op: Op[Any], exc: psycopg.Error, error: EventLogError) -> NoReturn:
    """The transaction is over: let the operation translate the error; raise `error` itself if it does not."""
    with suppress(psycopg.Error, StopIteration):
        op.throw(exc)
    op.close()
    raise error from exc


def workers(conn: Conn | AsyncConn, parallel: Parallel) -> int:
    """How many scripts run at a time: at most the pool's size, as more would wait for a connection, and then fail."""
    most = conn.max_size if isinstance(conn, (ConnectionPool, AsyncConnectionPool)) else 1
    return max(1, min(parallel.workers, most))


def check_transaction(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Raises the server's error for a failed transaction, which some versions of psycopg would not ask the server
    for."""
    if conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.INERROR:
        raise psycopg.errors.InFailedSqlTransaction("current transaction is aborted: roll it back first")


def is_standby(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server is a standby, as it reports to each client on its own."""
    return conn.pgconn.parameter_status(b"in_hot_standby") == b"on"


def is_busy(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether a pipeline has statements in progress: until it is synced, it is unknown whether a transaction is
    open."""
    return conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE


def check_encoding(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Raises InvalidInputError for a connection that cannot carry every text."""
    encoding = conn.pgconn.parameter_status(b"client_encoding")
    # PostgreSQL reports UTF8; a pooler repeats the client's spelling.
    if encoding is not None and encoding != b"UTF8" and encoding.upper().replace(b"-", b"") != b"UTF8":
        raise InvalidInputError(
            f"the connection's client_encoding is {encoding.decode()}, which cannot carry every text: use UTF8"
        )


class DriverBase:
    """A driver's connection or pool, and the errors after which it may retry."""

    _on_retry: OnRetry | None = None

    fields_of: Callable[[Any], Mapping[str, Any]] | None = None
    """Returns the fields of a call's log lines, from its subject."""

    def __init__(self, conn: Any, pipe: Any, retry: RetryPolicy | None, *, is_async: bool) -> None:
        _check_given(conn, pipe, is_async=is_async)
        pool_class: type[ConnectionPool[Any] | AsyncConnectionPool[Any]] = _ASYNC[1] if is_async else _SYNC[1]
        is_pool = isinstance(conn, pool_class)
        self._conn = conn
        self._pipe = pipe
        self._retry = retry or RetryPolicy()
        self._watch = PoolWatch(conn, self._retry) if is_pool else None
        self._outage = None if self._watch is None else self._watch.outage
        # A pool of the user's own class may run code at each loan.
        self._borrows = is_pool and type(conn).connection is pool_class.connection
        # A pool of the user's own class may have none.
        self._has_timeout = is_pool and not self._borrows and _takes_timeout(type(conn).connection)
        self._connections = Connections(psycopg.AsyncCursor if is_async else psycopg.Cursor)
        self._process = Process()

    def check_process(self) -> None:
        """Raises ForkedProcessError in a child of the process that opened the connections."""
        if self._process.is_left:
            raise ForkedProcessError(self._process.describe())

    def _note(self, exc: StorageError, began: float) -> Callable[[], float] | None:
        """Note a call's error; returns a function that tells when its last retry may begin."""
        if is_node_lost(exc) and self._retry.away_deadline is not None:
            ends = began + min(self._retry.away_deadline, self._retry.deadline)
            return lambda: ends
        if self._outage is None:
            return None
        if wants_another_connection(exc):
            self._outage.suspect()
        return partial(self._outage.ends, began)

    def _fields(self, about: Any) -> About | None:
        return None if about is None or self.fields_of is None else partial(self.fields_of, about)

    @property
    def is_away(self) -> bool:
        """Whether the server is or may be away: a call lost its connection or got none, and no later call got one."""
        return self._outage is not None and (self._outage.is_away or self._outage.is_suspected)

    def _may_retry(self, exc: BaseException, was_idle: bool) -> bool:
        if wants_another_connection(exc):
            return self._watch is not None
        return was_idle and (is_conflict(exc) or is_node_lost(exc))

    def _error(self, exc: psycopg.Error) -> EventLogError:
        if self._watch and isinstance(exc, POOL_ERRORS):
            return self._watch.explained(exc)
        error = translate(exc)
        if self._watch is None and wants_another_connection(error):
            # psycopg may raise before libpq has read that the socket is closed: then `conn.closed` would stay False,
            # and the user's next command would fail with "already in progress". This check makes libpq read.
            is_stale(self._conn)
        return error


def _takes_timeout(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(each.name == "timeout" or each.kind == each.VAR_KEYWORD for each in parameters)


def _check_given(conn: object, pipe: object, *, is_async: bool) -> None:
    """Raises InvalidInputError unless this is a connection or pool of this kind, and for a pool with a pipeline."""
    ours, others = (_ASYNC, _SYNC) if is_async else (_SYNC, _ASYNC)
    one, pool = (each.__name__ for each in ours)
    saver, other = ("AsyncEventLogSaver", "EventLogSaver") if is_async else ("EventLogSaver", "AsyncEventLogSaver")
    wanted = f"{'an' if is_async else 'a'} {one}"
    if not isinstance(conn, ours):
        given = "a connection string" if isinstance(conn, str) else type(conn).__name__
        instead = other if isinstance(conn, others) else f"{saver}.from_conn_string(…)"
        raise InvalidInputError(f"{given} was given, but {wanted} or {pool} is needed: use {instead}")
    if pipe is not None and isinstance(conn, ours[1]):
        raise InvalidInputError(f"a pipeline belongs to one connection: give {wanted}, not a pool, with pipe")
