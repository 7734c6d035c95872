"""Nothing that another user has planted on the search path is run by the log's statements and functions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from projections.usage import Usage
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put
from tests.support.planting import calls, plant, scripts
from tests.support.pooler import direct
from tests.support.server import Server

#: Statements of Python that still call functions without their schema.
UNQUALIFIED: tuple[str, ...] = ()

pytestmark = pytest.mark.portable


@pytest.fixture
async def mallory(server: Server, database_uri: str) -> AsyncIterator[str]:
    """The connection string of a user without rights, where everybody may create in `public`."""
    with psycopg.connect(direct(database_uri), autocommit=True) as conn:
        conn.execute("create role mallory login")
        conn.execute("grant create on schema public to public")
    yield direct(database_uri).replace("postgres@", "mallory@")
    with psycopg.connect(direct(database_uri), autocommit=True) as conn:
        conn.execute("reset search_path")
        conn.execute("drop owned by mallory cascade")
        conn.execute("drop role mallory")


async def work(saver: Any, thread_id: str) -> None:
    """What owners, erasers and writers do."""
    config = config_of(thread_id)
    for number in range(1, 7):
        config = await put(saver, config, f"{number}", {"x": f"{number}" * 2000, "y": number}, metadata={"run_id": "r"})
        await saver.aput_writes(config, [("x", f"{number}" * 1999)], "task")
    assert [each async for each in saver.alist(config_of(thread_id), filter={"run_id": "r"}, limit=3)]
    await saver.aget_delta_channel_history(config=config, channels=["x"])
    await saver.acopy_thread(thread_id, f"copy of {thread_id}")
    await saver.log.prune([thread_id], keep_last=2)
    await saver.adelete_for_runs(["none"])
    assert [each async for each in saver.log.history(thread_id)]
    assert [each async for each in saver.log.tail()]
    await saver.log.diff(thread_id, "5", "6")
    await saver.log.fork_thread(thread_id, f"fork of {thread_id}", "6")
    await saver.log.project(Usage())
    await saver.log.lag()
    await saver.log.stats(exact=True)
    await saver.log.threads()
    await saver.log.threads([thread_id])
    for sort in ("activity", "size", "events", "id"):
        assert await saver.log.threads(filter={"run_id": "r"}, sort=sort)
    assert await saver.log.threads([thread_id], filter={"run_id": "r"})
    assert (await saver.log.thread_status([thread_id]))[thread_id].status == "idle"
    await saver.log.prune_all(keep_last=1)
    await saver.log.partitions(exact=True)
    await saver.log.seal()
    await saver.log.prove(thread_id)
    assert (await saver.log.verify(states=True)).problems == []
    assert not any((await saver.log.rebuild(check=True)).differing.values())
    await saver.log.rebuild()
    await saver.log.expire(timedelta(days=1))
    await saver.log.retain(timedelta(days=1))
    await saver.adelete_thread(thread_id)


def test_functions_and_statements_name_the_schema_of_what_they_call(database_uri: str) -> None:
    """Statements run with the session's search path, and so do helpers, where the entry point has no other."""
    names = set(Tables(database_uri).rows("select distinct proname from pg_proc where pronamespace = 11"))
    catalog = {name for (name,) in names}
    unqualified = [
        (where, name)
        for where, text in scripts()
        if not where.startswith(UNQUALIFIED) and "_v1" not in where
        for name, is_qualified in calls(text, catalog)
        if not is_qualified
    ]
    assert unqualified == []


def test_entry_points_have_a_search_path_of_their_own(database_uri: str) -> None:
    """All that run with the owner's rights, and all that a role may be granted."""
    found = Tables(database_uri).rows(
        "select p.proname from pg_proc as p where p.pronamespace = '{schema}'::regnamespace"
        " and p.prosecdef and not 'search_path=pg_catalog, pg_temp' = any(p.proconfig)"
    )
    assert found == []


@pytest.mark.attack("stolen writer")
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_better_matches_are_not_run(kind: str, database_uri: str, mallory: str) -> None:
    """For each function and operator that the log's SQL uses, of all types that it has."""
    plant(mallory, takes_precedence=False)
    with psycopg.connect(database_uri) as conn, pytest.raises(psycopg.errors.RaiseException, match="planted: text"):
        conn.execute("select 'a'::text || 1")
    async with open_saver(kind, database_uri, snapshot_floor_bytes=0) as saver:
        await saver.setup()
        await work(saver, "1")


@pytest.mark.attack("stolen writer")
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_functions_run_nothing_planted_where_public_comes_first(
    kind: str, database_uri: str, mallory: str
) -> None:
    """With `public` before `pg_catalog` even PostgreSQL's own types do not help: what functions do is out of reach."""
    with psycopg.connect(direct(database_uri), autocommit=True) as conn:
        conn.execute(f'alter database "{conn.info.dbname}" set search_path = public, pg_catalog'.encode())
    plant(mallory, takes_precedence=True)
    with psycopg.connect(database_uri) as conn, pytest.raises(psycopg.errors.RaiseException, match="planted: "):
        conn.execute("select 1 = 1")
    async with open_saver(kind, database_uri, snapshot_floor_bytes=0) as saver:
        config = config_of("1")
        for number in range(1, 7):
            config = await put(saver, config, f"{number}", {"x": f"{number}" * 2000, "y": number})
            await saver.aput_writes(config, [("x", f"{number}" * 1999)], "task")
        assert await saver.aget_tuple(config_of("1", "3"))
        await saver.adelete_thread("1")
