"""Opening what a saver runs on (the part where sync and async must differ), and setting up its database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncPipeline, Connection, Pipeline
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.appending import ensure_partitions
from eventlog.errors import ConnectionLostError, InvalidInputError
from eventlog.feed import start_generation
from eventlog.migrations import migrate
from eventlog.operations import Script
from langgraph.checkpoint.eventlog._operations import Context

__all__ = ["open_async", "open_sync", "setup"]

# Every statement its own transaction. None is prepared: PgBouncer's transaction mode may give the next statement to
# another server process, and calling a database function gains little by it (measured: 0 to 10%).
_CONNECTION = {"autocommit": True, "prepare_threshold": None, "client_encoding": "utf8"}


def setup(context: Context) -> Script[None]:
    """Bring the schema up to date and make partitions ahead."""
    yield from migrate(context.statements)
    yield lambda: ensure_partitions(context.statements, context.settings)
    yield lambda: start_generation(context.statements)


_NOT_A_STRING = (
    "not a PostgreSQL connection string: it must be a URI (postgresql://user@host:5432/database) or 'key=value' pairs, "
    "with special characters encoded. It is not shown, as it may hold a password"
)


@contextmanager
def open_sync(
    conn_string: str, *, pipeline: bool, max_size: int
) -> Iterator[tuple[Connection[Any] | ConnectionPool[Any], Pipeline | None]]:
    """A pool, or one connection in pipeline mode.

    Raises:
        InvalidInputError: when it is not a connection string.
        ConnectionLostError: at once when the server cannot be reached. (A pool alone would go on trying.)
    """
    try:
        conn = Connection.connect(conn_string, **_CONNECTION)  # type: ignore[arg-type]
    except psycopg.ProgrammingError:
        # libpq quotes what it could not read: its error must not be in anybody's traceback.
        raise InvalidInputError(_NOT_A_STRING) from None
    except psycopg.Error as exc:
        raise ConnectionLostError(f"could not connect to PostgreSQL: {exc}") from exc
    with conn:
        if pipeline:
            with conn.pipeline() as pipe:
                yield conn, pipe
            return
    with ConnectionPool(conn_string, min_size=1, max_size=max_size, kwargs=_CONNECTION, open=True) as pool:
        yield pool, None


@asynccontextmanager
async def open_async(
    conn_string: str, *, pipeline: bool, max_size: int
) -> AsyncIterator[tuple[AsyncConnection[Any] | AsyncConnectionPool[Any], AsyncPipeline | None]]:
    """As `open_sync`."""
    try:
        conn = await AsyncConnection.connect(conn_string, **_CONNECTION)  # type: ignore[arg-type]
    except psycopg.ProgrammingError:
        # libpq quotes what it could not read: its error must not be in anybody's traceback.
        raise InvalidInputError(_NOT_A_STRING) from None
    except psycopg.Error as exc:
        raise ConnectionLostError(f"could not connect to PostgreSQL: {exc}") from exc
    async with conn:
        if pipeline:
            async with conn.pipeline() as pipe:
                yield conn, pipe
            return
    async with AsyncConnectionPool(conn_string, min_size=1, max_size=max_size, kwargs=_CONNECTION, open=False) as pool:
        yield pool, None
