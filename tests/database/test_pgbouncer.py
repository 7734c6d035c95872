"""A real PgBouncer in transaction mode: why nothing is prepared behind it, and what happens when it loses a server.

Part of the suite where that runs through PgBouncer (EVENTLOG_TEST_PGBOUNCER); the rest of the suite is the larger part
of what is tested then.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
import pytest

from eventlog.db.connections import Connections, Known
from eventlog.errors import StorageError
from tests.database.test_poolers import driver_of
from tests.support.adapters import CONNECT, POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, put, values_of
from tests.support.pooler import is_between, tracks_statements
from tests.support.soundness import assert_sound

pytestmark = pytest.mark.portable


@pytest.fixture(autouse=True)
def behind_pgbouncer(database_uri: str) -> None:
    assert is_between()


@pytest.fixture
def unprotected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver takes every connection for a direct one, without a probe."""

    monkeypatch.setattr(Connections, "add", lambda self, conn: self.setdefault(conn, Known(is_direct=True)))


async def test_pgbouncer_reports_another_backend_pid(database_uri: str) -> None:
    with psycopg.connect(database_uri, autocommit=True) as conn:
        assert conn.execute("select pg_backend_pid()").fetchone() != (conn.info.backend_pid,)


class Others:
    """Another client, which prepares a statement of its own on a server connection that the saver will be given.

    PgBouncer gives the connection that was used longest ago, and makes one if none is free.
    """

    def __init__(self, uri: str, parameters: int) -> None:
        self._client = psycopg.connect(uri, autocommit=True, prepare_threshold=0)
        self._holder = psycopg.connect(uri, autocommit=True, prepare_threshold=None)
        # Answers nothing, whatever it is given.
        self._statement = f"select {', '.join(['%s::text'] * parameters)} where false"
        self._params = [""] * parameters

    def prepare(self) -> None:
        """Hold the server connection that is there, so that the statement is prepared on another."""
        self._holder.execute("begin")
        assert self._client.execute(self._statement, self._params).fetchall() == []  # type: ignore[arg-type]

    def close(self) -> None:
        self._client.close()
        self._holder.close()


@pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])
@pytest.mark.parametrize("is_protected", [True, False], ids=["protected", "unprotected"])
async def test_unguarded_prepared_statements_run_another_clients_query(
    kind: str, is_protected: bool, database_uri: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without protection the other's is executed, as it has the same name: a checkpoint that is there is not found."""
    async with open_saver("sync-string", database_uri) as writer:
        await put(writer, config_of(), "1", {"x": 1})
    if not is_protected:
        request.getfixturevalue("unprotected")
    async with open_saver(kind, database_uri, connect=CONNECT, state_cache_bytes=0) as saver:
        queries: list[Any] = []
        driver = driver_of(saver)
        monkeypatch.setattr(driver, "_execute", lambda *given: (queries.append(given[-1]), execute(*given))[1])
        execute = type(driver)._execute.__get__(driver)
        assert (await saver.aget_tuple(config_of())).checkpoint["channel_values"] == {"x": 1}
        others = Others(database_uri, len(queries[0].params))
        try:
            await asyncio.to_thread(others.prepare)
            found = await saver.aget_tuple(config_of())
        finally:
            others.close()
    assert (found is not None) == (is_protected or tracks_statements())


@pytest.mark.usefixtures("unprotected")
@POOLS
async def test_unguarded_prepared_statements_fail(kind: str, database_uri: str) -> None:
    """Most often with an error, as names are unknown or taken."""
    if tracks_statements():
        await _clients(kind, database_uri)
        return
    with pytest.raises(StorageError, match="prepared statement"):
        await _clients(kind, database_uri)


@POOLS
async def test_no_statement_is_prepared_on_any_server_connection(kind: str, database_uri: str) -> None:
    """Several clients, which would prepare everything; then a look into each server connection that there is."""
    await _clients(kind, database_uri)
    with psycopg.connect(database_uri, autocommit=True, prepare_threshold=None) as conn:
        all_of_them = {pid for (pid,) in Tables(database_uri).rows(OTHERS)}
        seen = set()
        for _ in range(1000):
            (pid,), *more = conn.execute(
                "select pg_backend_pid()::text union all select statement from pg_prepared_statements"
            ).fetchall()
            assert more == []
            seen.add(int(pid))
            if seen >= all_of_them:
                break
    assert len(seen & all_of_them) > 1


OTHERS = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


async def _clients(kind: str, uri: str) -> None:
    async def client(number: int) -> None:
        async with open_saver(kind, uri, connect=CONNECT, state_cache_bytes=0) as saver:
            for each in range(5):
                config = config_of(f"{number} {each}")
                stored = await put(saver, config, "1", {"x": number})
                await saver.aput_writes(stored, [("x", number)], "task")
                assert await values_of(saver, config) == {"x": number}

    await asyncio.gather(*map(client, range(8)))
    tables = Tables(uri)
    assert tables.events() == 8 * 5 * 2
    assert_sound(tables)


@POOLS
async def test_a_call_on_a_dead_server_connection_is_repeated(kind: str, database_uri: str) -> None:
    """While it is in use: PgBouncer ends the client's too, in words of its own, and the call is repeated on another."""
    waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with open_saver(kind, database_uri, connect=CONNECT) as saver:
        first = await put(saver, config_of(), "1", {"x": 1})
        with Tables(database_uri) as tables, psycopg.connect(database_uri) as blocker:
            blocker.execute("select 1 from eventlog.streams for update")
            appending = asyncio.ensure_future(put(saver, first, "2", {"x": 2}))
            until = time.monotonic() + 240
            while not (pids := tables.rows(waiting)):
                assert time.monotonic() < until
                await asyncio.sleep(0.02)
            tables.rows("select pg_terminate_backend(%s)", *pids[0])
            blocker.rollback()
            second = await appending
        assert await values_of(saver, second) == {"x": 2}
        assert tables.events() == 2
    assert_sound(tables)
