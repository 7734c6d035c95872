"""Nothing of ours is prepared behind a pooler, and finding one costs one question for each connection.

How the tests are run decides whether there is one (`tests.support.pooler`). Here an answer that is not the process id
that the connection knows stands for one; a real one is in `tests.database.test_pgbouncer`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from eventlog.db import async_, sync
from eventlog.db.connections import Connections, Known
from eventlog.db.query import Query
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.feed.views import AsyncSeen, Seen
from tests.saver.test_semantics_connections import exercise
from tests.support.adapters import CONNECT, AsyncFace, open_saver
from tests.support.checkpoints import config_of, put
from tests.support.pooler import direct

pytestmark = pytest.mark.portable


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that the server was asked about."""
    record_probe = Connections.record_probe
    conns: list[Any] = []

    def learned(self: Connections, conn: Any, known: Known, rows: Any) -> None:
        conns.append(conn)
        record_probe(self, conn, known, rows)

    monkeypatch.setattr(Connections, "record_probe", learned)
    return conns


@pytest.fixture
def pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers is never the process that the connection was told of."""
    for module in (sync, async_):
        monkeypatch.setattr(module, "BACKEND_PID_QUERY", Query(b"select pg_backend_pid() + 1"))


def driver_of(saver: Any) -> Any:
    return (saver.sync if isinstance(saver, AsyncFace) else saver)._driver


async def prepared_on(saver: Any) -> list[str]:
    """The statements that are prepared on a saver's only connection."""
    conn = driver_of(saver)._conn
    query = "select statement from pg_prepared_statements"
    if isinstance(conn, psycopg.Connection):
        found: Any = await asyncio.to_thread(lambda: conn.execute(query, prepare=False).fetchall())
    else:
        found = await (await conn.execute(query, prepare=False)).fetchall()
    return [next(iter(row.values())) for row in found]


@pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])
async def test_statements_are_prepared_on_a_direct_connection(kind: str, database_uri: str, asked: list[Any]) -> None:
    # A prepared statement is a session's.
    async with open_saver(kind, direct(database_uri), connect=CONNECT) as saver:
        await exercise(saver)
        assert any("append_checkpoint" in statement for statement in await prepared_on(saver))
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])
async def test_no_statement_is_prepared_behind_a_pooler(
    kind: str, database_uri: str, asked: list[Any], pooler: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_saver(kind, direct(database_uri), connect=CONNECT) as saver:
        await exercise(saver)
        await exercise(saver)
        assert await prepared_on(saver) == []
    assert len(asked) == 1
    (record,) = caplog.records
    assert (record.event, record.levelno) == ("eventlog.pooler_found", logging.WARNING)
    assert "prepare_threshold=None" in record.__dict__["advice"]


@pytest.mark.usefixtures("pooler")
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_each_connection_is_probed_once(
    kind: str, database_uri: str, asked: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Connections that are gone are forgotten. It is said once."""
    async with open_saver(kind, database_uri, connect=CONNECT) as saver:
        for _ in range(3):
            await asyncio.gather(*(saver.aget_tuple(config_of(str(each))) for each in range(30)))
            assert len(asked) == len(set(asked))
            conns = [conn for conn in asked if not conn.closed]
            assert set(driver_of(saver)._connections) >= set(conns)
            for conn in conns:
                await (asyncio.to_thread(conn.close) if kind == "sync-pool" else conn.close())
        assert len(asked) >= 3
        await saver.aget_tuple(config_of())
        assert [conn.closed for conn in driver_of(saver)._connections] == [False]
    assert [record.event for record in caplog.records if record.name == "eventlog"] == ["eventlog.pooler_found"]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_connections_that_prepare_nothing_are_not_probed(mode: str, database_uri: str, asked: list[Any]) -> None:
    for source in ("pool", "connection"):
        connect = {"autocommit": True, "prepare_threshold": None}
        async with open_saver(f"{mode}-{source}", database_uri, connect=connect) as saver:
            await exercise(saver)
    assert asked == []


@pytest.mark.usefixtures("pooler")
@pytest.mark.parametrize("pipeline", [False, True], ids=["", "pipeline"])
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "manual"])
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_nothing_is_prepared_in_a_users_transaction_behind_a_pooler(
    mode: str, autocommit: bool, pipeline: bool, database_uri: str, asked: list[Any]
) -> None:
    """There the process stays the same; what was prepared in it would stay behind."""
    options: dict[str, Any] = {"autocommit": autocommit, "prepare_threshold": 0}
    async with AsyncExitStack() as stack:
        if mode == "sync":
            conn = stack.enter_context(psycopg.connect(database_uri, **options))
            pipe = stack.enter_context(conn.pipeline()) if pipeline else None
            with conn.transaction():
                await exercise(AsyncFace(EventLogSaver(conn, pipe)))
                names = dict(conn._prepared._names)
        else:
            aconn = await stack.enter_async_context(await psycopg.AsyncConnection.connect(database_uri, **options))
            apipe = await stack.enter_async_context(aconn.pipeline()) if pipeline else None
            async with aconn.transaction():
                await exercise(AsyncEventLogSaver(aconn, apipe))
                names = dict(aconn._prepared._names)
    assert names == {}
    assert len(asked) == 1


@pytest.mark.usefixtures("pooler")
@pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])
async def test_the_users_own_prepare_threshold_stays(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri, connect={**CONNECT, "prepare_threshold": 3}) as saver:
        await exercise(saver)
        assert driver_of(saver)._conn.prepare_threshold == 3


@pytest.mark.parametrize("is_behind", [True, False], ids=["behind a pooler", "directly"])
@pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])
async def test_a_projections_statements_are_prepared_where_the_savers_are(
    kind: str, is_behind: bool, database_uri: str, request: pytest.FixtureRequest
) -> None:
    if is_behind:
        request.getfixturevalue("pooler")
    uri = direct(database_uri)
    async with open_saver(kind, uri, connect=CONNECT) as saver:
        await put(saver, config_of("1"), "1", {"x": 1})
        assert await saver.log.project(Seen() if kind.startswith("sync") else AsyncSeen()) == {"seen": 1}
        assert any("insert into" in statement for statement in await prepared_on(saver)) != is_behind
        assert driver_of(saver)._conn.prepare_threshold == 0
