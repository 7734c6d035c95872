"""The common part of savers and logs: connecting, and setting up the database."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Final, Literal, ParamSpec, TypeVar

import psycopg
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol, maybe_add_typed_methods
from psycopg import AsyncConnection, AsyncPipeline, Connection, Pipeline
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from typing_extensions import Self

from eventlog.db.async_ import AsyncDriver
from eventlog.db.base import AsyncConn, Conn
from eventlog.db.forks import Process
from eventlog.db.migrations import migrate
from eventlog.db.query import Script
from eventlog.db.sync import Driver
from eventlog.distribution import check_cluster, check_shards, distribute, is_distributed
from eventlog.embedded import embedded_server
from eventlog.errors import ConnectionLostError, InvalidInputError
from eventlog.feed import start_generation
from eventlog.partitions import ensure_partitions, put_settings
from eventlog.rights import Rights, check_grants, grant_rights, renew_grants, warn_of_open_schemas
from eventlog.settings import Settings, StoredSettings
from langgraph.checkpoint.eventlog._arguments import fields_of
from langgraph.checkpoint.eventlog._context import Context

__all__ = ["AsyncConnected", "Connected", "awaitable", "iterating", "sharing"]

C = TypeVar("C", bound="Connected | AsyncConnected")
P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

# Every statement is its own transaction. On a direct connection statements are prepared at once: `get_tuple` takes a
# fifth less time. The driver probes each connection first, as PgBouncer's transaction mode may give the next statement
# to another server process.
_CONNECTION: Final[Mapping[str, Any]] = {"autocommit": True, "prepare_threshold": 0, "client_encoding": "utf8"}

# When a network or a host fails, no message arrives, and TCP alone waits for two hours. In seconds, the last in
# milliseconds. Values in the connection string or PGCONNECT_TIMEOUT take precedence.
_PATIENCE: Final[Mapping[str, int]] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

# psycopg_pool doubles the pause between its tries to connect until it gives up. So it gives up after a second and
# starts again: a server that is back is found within two seconds.
_POOL: Final[Mapping[str, Any]] = {"min_size": 1, "reconnect_timeout": 1.0}


def _setup(
    context: Context, grant: Any, partition_interval: Any, partitions_ahead: Any, citus: Any, shards: Any
) -> Script[None]:
    """Bring the schema up to date, distribute the log if asked to, store settings, grant rights, make partitions."""
    statements, views_schema = context.statements, context.settings.views
    grants = check_grants({} if grant is None else grant)
    stored = StoredSettings.parse({"partition_interval": partition_interval, "partitions_ahead": partitions_ahead})
    check_shards(citus, shards)
    if citus:
        # Before a worker, or a database without the extension, gets a log of its own.
        yield lambda: check_cluster(statements)
    yield from migrate(statements)
    if citus or (yield lambda: is_distributed(statements)):
        yield from distribute(statements, shards)
    if any(each is not None for each in stored.model_dump().values()):
        yield lambda: put_settings(statements, stored)
    for rights, role in grants:
        yield partial(grant_rights, statements, rights, role, views_schema)
    yield lambda: renew_grants(statements, views_schema)
    yield lambda: ensure_partitions(statements)
    yield lambda: start_generation(statements)
    yield lambda: warn_of_open_schemas(statements)


def _parameters(conn_string: str, *, pipeline: bool) -> dict[str, Any]:
    try:
        # There may be several ports.
        given: dict[str, Any] = {name: str(value) for name, value in conninfo_to_dict(conn_string).items()}
    except psycopg.ProgrammingError:
        # libpq quotes the text that it could not parse, perhaps a password: keep its error out of tracebacks.
        raise InvalidInputError(
            "not a PostgreSQL connection string: it must be a URI (postgresql://user@host:5432/database) or "
            "'key=value' pairs, with special characters encoded. The message does not show it, because it may hold a "
            "password"
        ) from None
    # A password with "@" or "/" ends up in these fields, which libpq's messages quote.
    hosts = [host for host in given.get("host", "").split(",") if not host.startswith(("/", "@"))]
    if (
        not set(given.get("port", "")) <= set("0123456789,")
        or any("@" in host for host in hosts)
        or ("@" in given.get("dbname", "") and "://" in conn_string and "%40" not in conn_string)
    ):
        raise InvalidInputError(
            "libpq reads another host, port or database from the connection string than you mean: in a URI, "
            "percent-encode the password's special characters (%40 for @, %2F for /)"
        )
    if "PGCONNECT_TIMEOUT" in os.environ:
        given["connect_timeout"] = os.environ["PGCONNECT_TIMEOUT"]
    # If an error stops a pipeline, later statements are not prepared, but psycopg believes that they are.
    unprepared = {"prepare_threshold": None} if pipeline else {}
    return {**_CONNECTION, **unprepared, **{name: value for name, value in _PATIENCE.items() if name not in given}}


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


def _check_relaxed(settings: Settings, conn: object) -> None:
    if settings.relaxed_writes and isinstance(conn, (Connection, AsyncConnection)):
        raise InvalidInputError(
            "relaxed_writes needs a pool: a connection may be in a transaction of yours, which would not wait for the "
            "disk either. Give a pool, or leave the setting out"
        )


def _unreachable(exc: psycopg.Error) -> ConnectionLostError:
    return ConnectionLostError(f"could not connect to PostgreSQL: {exc}")


def sharing(cls: type[C], owner: Connected | AsyncConnected) -> C:
    """A log that shares a saver's connection and context."""
    kind: Any = cls
    if owner._context.recorder is not None:
        from langgraph.checkpoint.eventlog._instrumented import instrumented

        kind = instrumented(cls)
    made = kind.__new__(kind)
    made._context, made._driver, made.serde = owner._context, owner._driver, owner._context.reading(owner.serde)
    return made  # type: ignore[no-any-return]


class Connected:
    """A saver or a log on a connection or a pool. See `EventLogSaver` for the arguments."""

    _is_async: ClassVar[bool] = False

    def __init__(
        self, conn: Conn, pipe: Pipeline | None = None, serde: SerializerProtocol | None = None, **settings: Any
    ) -> None:
        self._context = Context.create(settings)
        _check_relaxed(self._context.settings, conn)
        typed = maybe_add_typed_methods(serde or BaseCheckpointSaver.serde)
        self.serde = typed if isinstance(self, BaseCheckpointSaver) else self._context.reading(typed)
        self._driver = self._connect(conn, pipe)
        self._driver.fields_of = fields_of
        super().__init__()  # For savers this is LangGraph's constructor.

    def _connect(self, conn: Conn, pipe: Pipeline | None) -> Driver:
        retry, recorder = self._context.settings.retry, self._context.recorder
        if recorder is None:
            return Driver(conn, pipe, retry=retry)
        # Only here, as it imports OpenTelemetry.
        from langgraph.checkpoint.eventlog import _instrumented

        self.__class__ = _instrumented.instrumented(type(self))
        return _instrumented.InstrumentedDriver(conn, pipe, retry=retry, recorder=recorder)

    @classmethod
    @contextmanager
    def from_conn_string(
        cls, conn_string: str, *, pipeline: bool = False, serde: SerializerProtocol | None = None, **settings: Any
    ) -> Iterator[Self]:
        """Open a connection pool, and close it at the end of the `with` block.

        The pool's connections are in autocommit mode, and work behind PgBouncer.

        Args:
            conn_string: A PostgreSQL connection string or URI.
            pipeline: Use the connections in pipeline mode.
            serde: The serializer; LangGraph's `JsonPlusSerializer` by default.
            settings: Fields of `Settings`. `pool_max_size` bounds the pool.

        Returns:
            A context manager, which yields the saver or the log.

        Raises:
            InvalidInputError: The text is not a connection string, or a setting is invalid.
            ConnectionLostError: The server cannot be reached.
        """
        most = Settings.parse(settings).pool_max_size
        kwargs = _parameters(conn_string, pipeline=pipeline)
        try:
            Connection.connect(conn_string, **kwargs).close()  # A pool would go on trying.
        except psycopg.Error as exc:
            raise _unreachable(exc) from exc
        pool_class = _PipelinedPool if pipeline else ConnectionPool
        pool = pool_class(
            conn_string, max_size=most, kwargs=kwargs, reconnect_failed=ConnectionPool.check, open=True, **_POOL
        )
        process = Process()
        try:
            yield cls(pool, serde=serde, **settings)
        finally:
            # In a forked child that leaves this block, closing would end the sessions of its parent.
            if not process.is_left:
                pool.close()

    @classmethod
    @contextmanager
    def embedded(cls, path: str | Path, *, serde: SerializerProtocol | None = None, **settings: Any) -> Iterator[Self]:
        """Run a private PostgreSQL server, for development, demos and tests (extra `embedded`).

        The database is set up and ready. The server listens on a unix socket only, and stops when the last process
        leaves it. The data stays.

        Args:
            path: The server's data directory, made when missing.
            serde: The serializer; LangGraph's `JsonPlusSerializer` by default.
            settings: Fields of `Settings`.

        Returns:
            A context manager, which yields the saver or the log.
        """
        Settings.parse(settings)  # before a server starts
        with embedded_server(path) as uri, cls.from_conn_string(uri, serde=serde, **settings) as made:
            made.setup()
            yield made

    def setup(
        self,
        *,
        grant: Mapping[Rights, str | Sequence[str]] | None = None,
        partition_interval: Literal["day", "week", "month"] | None = None,
        partitions_ahead: int | None = None,
        citus: bool = False,
        shards: int | None = None,
    ) -> None:
        """Create or upgrade the schema, tables, functions and partitions of the log.

        Run it before the first use and at every deployment. Many processes may run it at the same time. Grants are
        remembered: a later call adds the rights that a new version needs.

        Args:
            grant: Existing roles for sets of rights: `{"writer": "agent_app"}`, with a list for several roles.
            partition_interval: The time that one partition holds, in UTC, which the database stores. None keeps the
                stored value, at first a month.
            partitions_ahead: The number of partitions beyond the current one, 0 to 1,000, which the database stores.
                None keeps the stored value, at first 3.
            citus: Distribute the log, an existing one too, over the nodes of the Citus cluster of which the database is
                the coordinator's. Later calls keep it distributed.
            shards: The number of shards, 1 to 4,096; None: 32, or the number that the log has.

        Raises:
            InvalidInputError: A set of rights or a role does not exist, a value is out of range, or the log is a
                subscriber, which cannot be distributed.
            MissingGrantError: The database user lacks a grant. The message names it.
            DatabaseTooNewError: A newer version of the package set up the database.
            MigrationError: The schema is not as this version left it, the database is not a Citus cluster's coordinator
                with `citus`, or another setup does not finish.
        """
        return self._driver.run_script(
            _setup(self._context, grant, partition_interval, partitions_ahead, citus, shards)
        )


def awaitable(
    method: Callable[Concatenate[Any, P], T], prefix: str = ""
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The twin of a method of `EventLog` or `EventLogSaver`, with the same parameters, to be awaited.

    Such a method validates, starts an operation or a script, and hands it to the driver. The driver decides whether to
    wait or to return an awaitable, so the body serves both. The same holds for iterating methods.

    Args:
        prefix: of the twin's name.
    """
    body: Any = method

    @functools.wraps(method)
    async def twin(self: AsyncConnected, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await body(self, *args, **kwargs)  # type: ignore[no-any-return]

    return _named(twin, method, prefix)


def iterating(
    method: Callable[Concatenate[Any, P], Iterator[T]], prefix: str = ""
) -> Callable[Concatenate[Any, P], AsyncGenerator[T, None]]:
    """As `awaitable`, for a method that returns an iterator: the twin returns an async one."""
    body: Any = method

    @functools.wraps(method)
    def twin(self: AsyncConnected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return body(self, *args, **kwargs)  # type: ignore[no-any-return]

    signature = inspect.signature(method)
    returns = f"Async{signature.return_annotation}".replace(", None, None]", ", None]")
    twin.__signature__ = signature.replace(return_annotation=returns)  # type: ignore[attr-defined]
    return _named(twin, method, prefix)


def _named(twin: F, method: Callable[..., Any], prefix: str) -> F:
    owner, _, name = method.__qualname__.rpartition(".")
    twin.__name__ = prefix + name
    twin.__qualname__ = f"Async{owner}.{twin.__name__}"
    return twin


class AsyncConnected:
    """The async twin of `Connected`, on an `AsyncConnection` or an `AsyncConnectionPool`."""

    _is_async: ClassVar[bool] = True

    def __init__(
        self,
        conn: AsyncConn,
        pipe: AsyncPipeline | None = None,
        serde: SerializerProtocol | None = None,
        **settings: Any,
    ) -> None:
        self._context = Context.create(settings)
        typed = maybe_add_typed_methods(serde or BaseCheckpointSaver.serde)
        self.serde = typed if isinstance(self, BaseCheckpointSaver) else self._context.reading(typed)
        parsed = self._context.settings
        _check_relaxed(parsed, conn)
        self._driver = self._connect(conn, pipe)
        self._driver.fields_of = fields_of
        super().__init__()

    def _connect(self, conn: AsyncConn, pipe: AsyncPipeline | None) -> AsyncDriver:
        settings, recorder = self._context.settings, self._context.recorder
        if recorder is None:
            return AsyncDriver(conn, pipe, retry=settings.retry, offload_bytes=settings.offload_bytes)
        # Only here, as it imports OpenTelemetry.
        from langgraph.checkpoint.eventlog import _instrumented

        self.__class__ = _instrumented.instrumented(type(self))
        return _instrumented.InstrumentedAsyncDriver(
            conn, pipe, retry=settings.retry, offload_bytes=settings.offload_bytes, recorder=recorder
        )

    @classmethod
    @asynccontextmanager
    async def from_conn_string(
        cls, conn_string: str, *, pipeline: bool = False, serde: SerializerProtocol | None = None, **settings: Any
    ) -> AsyncIterator[Self]:
        """Open a connection pool, and close it at the end: `EventLogSaver.from_conn_string`, as an async one."""
        most = Settings.parse(settings).pool_max_size
        kwargs = _parameters(conn_string, pipeline=pipeline)
        try:
            await (await AsyncConnection.connect(conn_string, **kwargs)).close()
        except psycopg.Error as exc:
            raise _unreachable(exc) from exc
        pool_class = _AsyncPipelinedPool if pipeline else AsyncConnectionPool
        pool = pool_class(
            conn_string, max_size=most, kwargs=kwargs, reconnect_failed=AsyncConnectionPool.check, open=False, **_POOL
        )
        process = Process()
        try:
            await pool.open()
            yield cls(pool, serde=serde, **settings)
        finally:
            if not process.is_left:
                await pool.close()

    @classmethod
    @asynccontextmanager
    async def embedded(
        cls, path: str | Path, *, serde: SerializerProtocol | None = None, **settings: Any
    ) -> AsyncIterator[Self]:
        """Run a private PostgreSQL server: `EventLogSaver.embedded`, as an async context manager."""
        Settings.parse(settings)
        with ExitStack() as stack:
            # Starting a server takes a second that the event loop should not spend waiting.
            uri = await asyncio.to_thread(stack.enter_context, embedded_server(path))
            async with cls.from_conn_string(uri, serde=serde, **settings) as made:
                await made.setup()
                yield made

    setup = awaitable(Connected.setup)
