"""Bad settings and bad connections: an error that says what to do about it, and at once."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.errors import ConnectionLostError, InvalidInputError, NotSetUpError, StorageError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, everywhere, listed, listed_ids, put
from tests.support.pooler import direct

pytestmark = [pytest.mark.portable, pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])]


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"shema": "x"}, "unknown setting 'shema'.* The settings are: schema, views_schema"),
        ({"schema_name": "x"}, "unknown setting 'schema_name'"),
        ({"max_body_bytes": 10}, "setting 'max_body_bytes'.*greater than or equal to 1024"),
        ({"state_cache_bytes": -1}, "setting 'state_cache_bytes'"),
        # The reason, and not all that could be set.
        ({"schema": "1st"}, r"^setting 'schema': must be letters, .* start with a letter or '_' \(got '1st'\)$"),
        ({"schema": "pg_mine"}, r"^setting 'schema': is reserved by PostgreSQL \(got 'pg_mine'\)$"),
        ({"compression_level": "3"}, "setting 'compression_level'.*valid integer"),
    ],
)
async def test_unknown_and_invalid_settings_are_refused(
    kind: str, database_uri: str, keywords: Any, match: str
) -> None:
    """Unknown keywords and values out of range, in both ways to make a saver."""
    for made in (kind, kind.replace("pool", "string")):
        with pytest.raises(InvalidInputError, match=match):
            async with open_saver(made, database_uri, **keywords):
                pass


@asynccontextmanager
async def connections(uri: str) -> AsyncIterator[dict[str, Any]]:
    """One of each."""
    with psycopg.connect(uri) as conn, ConnectionPool(uri, min_size=1) as pool:
        async with await psycopg.AsyncConnection.connect(uri) as aconn, AsyncConnectionPool(uri, min_size=1) as apool:
            yield {"conn": conn, "pool": pool, "aconn": aconn, "apool": apool}


async def test_connections_of_the_wrong_kind_are_refused(kind: str, database_uri: str) -> None:
    """Each saver names what it takes, and the other saver; a pool has no pipeline."""
    async with connections(database_uri) as given:
        saver: Any = EventLogSaver if kind.startswith("sync") else AsyncEventLogSaver
        mine, others = ("", "a") if kind.startswith("sync") else ("a", "")
        instead = "use AsyncEventLogSaver" if kind.startswith("sync") else "use EventLogSaver"
        for name in ("conn", "pool"):
            with pytest.raises(InvalidInputError, match=instead):
                saver(given[others + name])
        for nothing in (None, database_uri, "postgresql://me:secret@host", 5):
            with pytest.raises(InvalidInputError, match=rf"use {saver.__name__}\.from_conn_string\(…\)") as caught:
                saver(nothing)
            assert "postgresql" not in str(caught.value)
        with given["conn"].pipeline() as pipe:
            async with given["aconn"].pipeline() as apipe:
                pipes = {"": pipe, "a": apipe}
                with pytest.raises(InvalidInputError, match=r"a pipeline belongs to one connection.* not a pool"):
                    saver(given[mine + "pool"], pipes[mine])


async def test_the_sync_savers_async_methods_name_the_async_saver(kind: str, database_uri: str) -> None:
    """All that LangGraph calls in an async program, and how to import and open the saver that has it."""
    names = [
        name for name in vars(BaseCheckpointSaver) if inspect.iscoroutinefunction(getattr(BaseCheckpointSaver, name))
    ]
    with EventLogSaver.from_conn_string(database_uri) as saver:
        for name in {*names, "alist"} - {"aget"}:
            imported = r"from langgraph\.checkpoint\.eventlog\.aio import AsyncEventLogSaver"
            says = rf"(?s)has no {name}\(\).*{imported}.*AsyncEventLogSaver\.from_conn_string"
            call = getattr(saver, name)(*[None] * len(inspect.signature(getattr(BaseCheckpointSaver, name)).parameters))
            with pytest.raises(NotImplementedError, match=says):
                await (anext(call) if name == "alist" else call)
        with pytest.raises(NotImplementedError, match="AsyncEventLogSaver"):
            await saver.aget(config_of())


async def test_every_method_without_setup_says_to_run_setup(kind: str, empty_database_uri: str) -> None:
    says = r"Run `setup\(\)` once on this database"
    async with open_saver(kind, empty_database_uri) as saver:
        for call in everywhere(saver, config_of("1", "1")):
            with pytest.raises(NotSetUpError, match=says):
                await call
        with pytest.raises(NotSetUpError, match=says):
            await saver.adelete_thread("1")
        with pytest.raises(NotSetUpError, match=says):
            await listed(saver, None)
        # It is not too late.
        await saver.setup()
        await put(saver, config_of(), "1")
        assert await listed_ids(saver, None) == ["1"]
    async with open_saver(kind, empty_database_uri, schema="another one") as saver:
        with pytest.raises(NotSetUpError, match="another one"):
            await saver.aget_tuple(config_of())


@pytest.mark.parametrize(
    ("uri", "error", "match"),
    [
        ("no connection string", InvalidInputError, "not a PostgreSQL connection string"),
        ("host=x no_such_option=1", InvalidInputError, "not a PostgreSQL connection string"),
        ("postgresql://me:secret%zword@host", InvalidInputError, "not a PostgreSQL connection string"),
        ("host=/nowhere", ConnectionLostError, "could not connect to PostgreSQL.*/nowhere"),
        ("postgresql://127.0.0.1:1/x", ConnectionLostError, "could not connect to PostgreSQL.*refused"),
    ],
)
async def test_unreachable_servers_fail_at_once(kind: str, uri: str, error: type[Exception], match: str) -> None:
    """A string that is none, and one that leads nowhere: at once, where a pool would try on."""
    for made in (kind.replace("pool", "string"), kind.replace("pool", "pipeline")):
        started = time.monotonic()
        with pytest.raises(error, match=f"(?s){match}") as caught:
            async with open_saver(made, uri):
                pass
        # libpq's own message would quote a part of it.
        assert "secret" not in "".join(traceback.format_exception(caught.value)).replace(uri, "")
        assert time.monotonic() - started < 30, "as long as a pool tries"


async def test_an_unknown_database_or_role_is_named_in_the_error(kind: str, database_uri: str) -> None:
    database_uri = direct(database_uri)  # A pooler has words of its own.
    for uri in (database_uri.replace("/test", "/no_such"), database_uri.replace("postgres@", "nobody@")):
        with pytest.raises(ConnectionLostError, match=r"could not connect.*does not exist"):
            async with open_saver(kind.replace("pool", "string"), uri):
                pass


async def test_closed_connections_raise_connection_errors(kind: str, database_uri: str) -> None:
    """A connection or a pool that the user has closed already, or a server that hung up."""
    # Behind a pooler, the client's connection need not end with the server's.
    async with connections(direct(database_uri)) as given:
        mine = "" if kind.startswith("sync") else "a"
        saver = EventLogSaver(given["conn"]) if mine == "" else AsyncEventLogSaver(given["aconn"])

        async def read() -> Any:
            if isinstance(saver, EventLogSaver):
                return saver.get_tuple(config_of())
            return await saver.aget_tuple(config_of())

        assert await read() is None
        Tables(database_uri).run(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        for _ in range(2):
            with pytest.raises(ConnectionLostError, match="the connection to PostgreSQL was lost"):
                await read()
        pool = given[mine + "pool"]
        saver = EventLogSaver(pool) if mine == "" else AsyncEventLogSaver(pool)
        # A pool replaces what died.
        assert await read() is None
        await (pool.close() if mine else _none(pool.close()))
        with pytest.raises(StorageError, match="closed"):
            await read()


async def _none(_: None) -> None:
    """Awaits what is done already."""


@pytest.mark.parametrize("encoding", ["latin1", "sqlascii"])
async def test_a_client_encoding_that_cannot_carry_all_text_is_refused(
    kind: str, encoding: str, database_uri: str
) -> None:
    """A connection that cannot carry every text is refused before it garbles one, or an answer."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri, connect={"client_encoding": encoding}) as saver:
        for thread_id in ("ascii", "grün", "日本"):
            for call in everywhere(saver, config_of(thread_id, "1")):
                with pytest.raises(InvalidInputError, match="client_encoding"):
                    await call
            with pytest.raises(InvalidInputError, match="client_encoding"):
                await saver.adelete_thread(thread_id)
    assert tables.events() == 0
