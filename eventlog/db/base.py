"""What the sync and the async driver share: stepping through operations, and looking at connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.db.connections import Connections
from eventlog.db.errors import translate
from eventlog.db.pool_health import POOL_ERRORS, PoolWatch
from eventlog.db.query import Op, Parallel
from eventlog.db.retry import RetryPolicy, is_conflict, wants_another_connection
from eventlog.errors import EventLogError, InvalidInputError

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
    """The transaction is over: all that the operation can still do is to say what the error means, or else `error`."""
    with suppress(psycopg.Error, StopIteration):
        op.throw(exc)
    op.close()
    raise error from exc


def workers(conn: Conn | AsyncConn, parallel: Parallel) -> int:
    """A pool that has no connection left would let the others wait, and then fail."""
    most = conn.max_size if isinstance(conn, (ConnectionPool, AsyncConnectionPool)) else 1
    return max(1, min(parallel.workers, most))


def check_transaction(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Raises what the server would say of a transaction that has failed; not each psycopg asks it."""
    if conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.INERROR:
        raise psycopg.errors.InFailedSqlTransaction("current transaction is aborted: roll it back first")


def is_standby(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server is a standby, as it tells each client by itself."""
    return conn.pgconn.parameter_status(b"in_hot_standby") == b"on"


def is_busy(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether a pipeline has statements under way: until it is synced nobody knows if a transaction is open."""
    return conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE


def check_encoding(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Raises InvalidInputError for a connection that cannot carry every text."""
    encoding = conn.pgconn.parameter_status(b"client_encoding")
    # PostgreSQL says UTF8; a pooler repeats it as the client spelled it.
    if encoding is not None and encoding != b"UTF8" and encoding.upper().replace(b"-", b"") != b"UTF8":
        raise InvalidInputError(
            f"the connection's client_encoding is {encoding.decode()}, which cannot carry every text: use UTF8"
        )


class DriverBase:
    """What a driver knows of its connection or pool, and which errors it may answer with another try."""

    def __init__(self, conn: Any, pipe: Any, retry: RetryPolicy | None, *, is_async: bool) -> None:
        _check_given(conn, pipe, is_async=is_async)
        pool_class: type[ConnectionPool[Any] | AsyncConnectionPool[Any]] = _ASYNC[1] if is_async else _SYNC[1]
        is_pool = isinstance(conn, pool_class)
        self._conn = conn
        self._pipe = pipe
        self._retry = retry or RetryPolicy()
        self._watch = PoolWatch(conn) if is_pool else None
        # A pool of the user's own class may do something at each loan.
        self._borrows = is_pool and type(conn).connection is pool_class.connection
        self._connections = Connections(psycopg.AsyncCursor if is_async else psycopg.Cursor)

    def _may_retry(self, exc: BaseException, was_idle: bool) -> bool:
        return (wants_another_connection(exc) and self._watch is not None) or (is_conflict(exc) and was_idle)

    def _error(self, exc: psycopg.Error) -> EventLogError:
        return self._watch.explained(exc) if self._watch and isinstance(exc, POOL_ERRORS) else translate(exc)


def _check_given(conn: object, pipe: object, *, is_async: bool) -> None:
    """Raises InvalidInputError for what is no connection or pool of this kind, and for a pool with a pipeline."""
    ours, others = (_ASYNC, _SYNC) if is_async else (_SYNC, _ASYNC)
    one, pool = (each.__name__ for each in ours)
    saver, other = ("AsyncEventLogSaver", "EventLogSaver") if is_async else ("EventLogSaver", "AsyncEventLogSaver")
    wanted = f"{'an' if is_async else 'a'} {one}"
    if not isinstance(conn, ours):
        given = "a connection string" if isinstance(conn, str) else type(conn).__name__
        instead = other if isinstance(conn, others) else f"{saver}.from_conn_string(…)"
        raise InvalidInputError(f"{given} is given where {wanted} or {pool} is needed: use {instead}")
    if pipe is not None and isinstance(conn, ours[1]):
        raise InvalidInputError(f"a pipeline belongs to one connection: give {wanted}, not a pool, with pipe")
