"""Sources: which tables are the incumbent's, what a database user needs, and other savers."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from psycopg import sql

from eventlog.errors import MissingGrantError, SourceError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.transfer.estimate import CHECKPOINT_BYTES, EVENT_BYTES
from tests.database.test_rights import as_role, role
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, put
from tests.support.pooler import direct
from tests.transfer.dumps.write import write_forks, write_graphs
from tests.transfer.incumbent import answers, encrypted, load_dump, text_of
from tests.transfer.test_import import THREADS, change, run, statuses

__all__ = ["role"]  # a fixture

pytestmark = POOLS

NEWER = "insert into checkpoint_migrations values (10)"

BAD_TABLES: list[tuple[tuple[str, ...], str | None, str]] = [
    ((), "nowhere", "schema 'nowhere' of database .* has no table checkpoint_migrations: these are not the tables of"),
    ((NEWER,), None, "have schema version 10; this package knows those up to 9. Upgrade"),
    (("delete from checkpoint_migrations",), None, "was not set up: checkpoint_migrations is empty"),
    (("drop table checkpoint_blobs",), None, "has no table checkpoint_blobs: these are not the tables of"),
    (("alter table checkpoints drop column metadata",), "public", "has no column metadata: these are not"),
    (("drop table checkpoint_migrations",), None, "has no table checkpoint_migrations on the search path of user"),
]


@pytest.mark.parametrize(("statements", "schema", "message"), BAD_TABLES)
async def test_tables_of_another_kind_are_refused(
    kind: str, database_uri: str, statements: tuple[str, ...], schema: str | None, message: str
) -> None:
    load_dump(database_uri, "3.2")
    for statement in statements:
        change(database_uri, statement)
    async with open_saver(kind, database_uri) as saver:
        for call in (saver.log.import_from, saver.log.estimate_import):
            with pytest.raises(SourceError, match=message):
                await call(database_uri, schema=schema)
    assert Tables(database_uri).rows("select 1 from {schema}.streams") == []


async def test_a_source_that_cannot_be_reached_is_named_without_its_password(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        for dsn, message in (
            ("postgresql://me:sw0rdfish@127.0.0.1:1/nowhere", "could not connect to the source"),
            ("postgresql://me:sw0rd:fish@[/nowhere", "is no PostgreSQL connection string"),
        ):
            with pytest.raises(SourceError, match=message) as caught:
                await saver.log.import_from(dsn)
            assert "sw0rd" not in str(caught.value)


async def test_an_importer_who_may_read_the_source_has_all_the_rights_that_it_takes(
    kind: str, database_uri: str, role: str
) -> None:
    load_dump(database_uri, "3.2", "old")
    uri = as_role(database_uri, role)
    grants = ("grant usage on schema old to {role}", "grant select on all tables in schema old to {role}")
    with psycopg.connect(direct(database_uri), autocommit=True) as conn:
        log = EventLogSaver(conn).log
        log.grant("auditor", role)
        async with open_saver(kind, uri, serde=encrypted()) as saver:
            with pytest.raises(
                SourceError, match=f'may not read the source: .*grant usage on schema "old" to "{role}"'
            ):
                await saver.log.import_from(uri, schema="old")
            for statement in grants:
                conn.execute(sql.SQL(statement).format(role=sql.Identifier(role)))  # type: ignore[arg-type]
            with pytest.raises(MissingGrantError, match=r"eventlog grant (importer|writer)"):
                await saver.log.import_from(uri, schema="old")
            log.grant("importer", role)
            assert statuses(await run(saver.log, uri, schema="old")) == {"imported"}
            last = [entry async for entry in saver.log.history("chat")][-1]
            assert last.operation["by"] == role
            assert last.operation["from"]["schema"] == "old"
            assert last.operation["from"].keys() == {"saver", "host", "database", "schema"}


async def write_to(old: Any) -> None:
    write_graphs(old)
    write_forks(old)


async def check_saver(saver: Any, old: Any, given: Any) -> None:
    """The log answers as the saver does. Of writes neither the path nor the indexes can be known: the order is."""
    found = await run(saver.log, given)
    assert statuses(found) == {"imported"}
    assert found.keys() == {"chat", "failed", "forked", "nested", "resumed", "sending", "sent", "waiting"}
    for thread_id in found:
        wanted = {text: config for config, text in answers(old, thread_id)}
        for text, config in wanted.items():
            assert text_of(await saver.aget_tuple(config)) == text
        listed = [text_of(each) async for each in saver.alist(config_of(thread_id, ns=None))]
        assert sorted(listed) == sorted(wanted)
    assert statuses(await run(saver.log, given)) == {"equal"}
    assert not (await saver.log.verify(states=True)).problems
    last = [entry async for entry in saver.log.history("chat")][-1]
    assert last.kind == "imported"
    assert last.operation["from"] == {"saver": type(given).__name__}


async def test_threads_of_a_saver_in_memory_are_imported_through_its_interface(kind: str, database_uri: str) -> None:
    old = InMemorySaver()
    await write_to(old)
    async with open_saver(kind, database_uri, trust_types=True) as saver:
        await check_saver(saver, old, old)


async def test_threads_of_a_saver_on_sqlite_are_imported_through_its_interface(
    kind: str, database_uri: str, tmp_path: Any
) -> None:
    path = str(tmp_path / "old.sqlite")
    with SqliteSaver.from_conn_string(path) as old:
        await write_to(old)
        async with open_saver(kind, database_uri, trust_types=True) as saver:
            if kind.startswith("async"):
                async with AsyncSqliteSaver.from_conn_string(path) as given:
                    await check_saver(saver, old, given)
            else:
                await check_saver(saver, old, old)


@pytest.mark.parametrize("trust_types", [True, False])
async def test_an_object_of_a_saver_that_changed_since_its_import_is_a_difference(
    kind: str, database_uri: str, trust_types: bool
) -> None:
    old = InMemorySaver()
    async with open_saver(kind, database_uri, trust_types=trust_types) as saver:
        for text, status in (("a", "imported"), ("a", "equal"), ("other", "differs")):
            await put(open_memory(old), config_of("1"), "1", {"x": [HumanMessage(text)], "y": {text}})
            assert statuses(await run(saver.log, old)) == {status}
        old = InMemorySaver()
        for text, status in (("a", "imported"), ("other", "differs")):
            config = await put(open_memory(old), config_of("2"), "1", {"x": 1})
            old.put_writes(config, [("x", {text})], "task")
            assert (await run(saver.log, old))["2"].status == status
            old = InMemorySaver()


async def test_a_saver_that_cannot_be_called_so_is_an_error_of_the_source(kind: str, database_uri: str) -> None:
    class Broken(InMemorySaver):
        def list(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("out of order")

    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(SourceError, match="Broken cannot be read: RuntimeError: out of order"):
            await saver.log.import_from(Broken())


async def test_an_estimate_of_all_threads_is_what_is_stored(kind: str, database_uri: str) -> None:
    load_dump(database_uri, "3.2")
    change(database_uri, "analyze")
    async with open_saver(kind, database_uri, serde=encrypted()) as saver:
        estimate = await saver.log.estimate_import(database_uri)
        assert Tables(database_uri).rows("select 1 from {schema}.streams") == []
        assert estimate.threads == estimate.sample_threads == len(THREADS)
        assert estimate.log_bytes > estimate.sample_log_bytes > 0
        assert estimate.source_bytes > estimate.sample_source_bytes > 0
        assert estimate.refused == []
        some = await saver.log.estimate_import(database_uri, thread_ids=["chat", "sent", "forked", "none"], sample=2)
        assert (some.threads, some.sample_threads) == (4, 2)
        done = await saver.log.import_from(database_uri)
        rows = Tables(database_uri).one("select count(*) from {schema}.events where kind < 6")
        bodies = estimate.sample_log_bytes - rows * EVENT_BYTES - done.checkpoints * CHECKPOINT_BYTES
        assert bodies == pytest.approx(done.stored_bytes, rel=0.02)


async def test_an_estimate_names_what_would_be_refused(kind: str, database_uri: str) -> None:
    load_dump(database_uri, "3.2")
    async with open_saver(kind, database_uri) as saver:
        estimate = await saver.log.estimate_import(database_uri)
        assert [each.thread_id for each in estimate.refused] == ["encrypted"]
        assert estimate.sample_threads == len(THREADS) - 1
        memory = InMemorySaver()
        assert (await saver.log.estimate_import(memory)).log_bytes is None
        await put(open_memory(memory), config_of("1"), "1", {"x": [1]})
        found = await saver.log.estimate_import(memory)
        assert (found.threads, found.source_bytes, found.sample_threads) == (1, None, 1)
        assert found.log_bytes > 0


def open_memory(saver: InMemorySaver) -> Any:
    return saver
