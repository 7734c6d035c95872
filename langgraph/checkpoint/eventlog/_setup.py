"""Opening what a saver runs on (the part where sync and async must differ), and setting up its database."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.db.migrations import migrate
from eventlog.db.query import Script
from eventlog.errors import ConnectionLostError, InvalidInputError
from eventlog.feed import start_generation
from eventlog.partitions import ensure_partitions
from langgraph.checkpoint.eventlog._context import Context

__all__ = ["open_async", "open_sync", "setup"]

# Every statement its own transaction. None is prepared: PgBouncer's transaction mode may give the next statement to
# another server process, and calling a database function gains little by it (measured: 0 to 10%).
_CONNECTION: Final[Mapping[str, Any]] = {"autocommit": True, "prepare_threshold": None, "client_encoding": "utf8"}

# When a network or a host is gone nobody says so, and TCP alone waits for two hours. In seconds, the last in
# milliseconds; what the connection string or PGCONNECT_TIMEOUT says goes before.
_PATIENCE: Final[Mapping[str, int]] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

#: psycopg_pool doubles the time between its attempts to connect for as long as one attempt lasts. So an attempt ends
#: after this many seconds, and another begins: a server that is back is found within two seconds.
_RECONNECT_SECONDS = 1.0


def setup(context: Context) -> Script[None]:
    """Bring the schema up to date and make partitions ahead."""
    yield from migrate(context.statements)
    yield lambda: ensure_partitions(context.statements, context.settings)
    yield lambda: start_generation(context.statements)


_NOT_A_STRING = (
    "not a PostgreSQL connection string: it must be a URI (postgresql://user@host:5432/database) or 'key=value' pairs, "
    "with special characters encoded. The message does not show it, because it may hold a password"
)


def _settings(conn_string: str) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(conn_string)
    except psycopg.ProgrammingError:
        # libpq quotes what it could not read: its error must not be in anybody's traceback.
        raise InvalidInputError(_NOT_A_STRING) from None
    if "PGCONNECT_TIMEOUT" in os.environ:
        given["connect_timeout"] = os.environ["PGCONNECT_TIMEOUT"]
    return {**_CONNECTION, **{name: value for name, value in _PATIENCE.items() if name not in given}}


class _PipelinedPool(ConnectionPool[Connection[Any]]):
    """Its connections are in pipeline mode while they are borrowed."""

    @contextmanager
    def connection(self, timeout: float | None = None) -> Iterator[Connection[Any]]:
        with super().connection(timeout) as conn, conn.pipeline():
            yield conn


class _AsyncPipelinedPool(AsyncConnectionPool[AsyncConnection[Any]]):
    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[AsyncConnection[Any]]:
        async with super().connection(timeout) as conn, conn.pipeline():
            yield conn


@contextmanager
def open_sync(conn_string: str, *, pipeline: bool, max_size: int) -> Iterator[ConnectionPool[Any]]:
    """A pool.

    Raises:
        InvalidInputError: when it is not a connection string.
        ConnectionLostError: at once when the server cannot be reached. (A pool alone would go on trying.)
    """
    settings = _settings(conn_string)
    try:
        Connection.connect(conn_string, **settings).close()
    except psycopg.Error as exc:
        raise ConnectionLostError(f"could not connect to PostgreSQL: {exc}") from exc
    with (_PipelinedPool if pipeline else ConnectionPool)(
        conn_string,
        min_size=1,
        max_size=max_size,
        kwargs=settings,
        reconnect_timeout=_RECONNECT_SECONDS,
        reconnect_failed=ConnectionPool.check,
        open=True,
    ) as pool:
        yield pool


@asynccontextmanager
async def open_async(conn_string: str, *, pipeline: bool, max_size: int) -> AsyncIterator[AsyncConnectionPool[Any]]:
    """As `open_sync`."""
    settings = _settings(conn_string)
    try:
        await (await AsyncConnection.connect(conn_string, **settings)).close()
    except psycopg.Error as exc:
        raise ConnectionLostError(f"could not connect to PostgreSQL: {exc}") from exc
    async with (_AsyncPipelinedPool if pipeline else AsyncConnectionPool)(
        conn_string,
        min_size=1,
        max_size=max_size,
        kwargs=settings,
        reconnect_timeout=_RECONNECT_SECONDS,
        reconnect_failed=AsyncConnectionPool.check,
        open=False,
    ) as pool:
        yield pool
