"""`setup()`: from any state of the database, with any rights, to a log that works or a clear error."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.db.statements import MIGRATIONS, Statements
from eventlog.errors import DatabaseTooNewError, InvalidInputError, MigrationError, StorageError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.adapters import AsyncFace, open_saver
from tests.support.checkpoints import Tables, config_of, listed, listed_ids, put, values_of
from tests.support.pooler import direct
from tests.support.server import Server

pytestmark = pytest.mark.portable

BOTH = pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])

SCRIPTS = [script.name for script in Statements("eventlog").scripts]

# What is in a database, our own schema's contents as they are described in the catalogs.
CATALOG = """
    select 'relation', c.oid::regclass::text, c.relkind::text from pg_class c
    where c.relnamespace not in (select oid from pg_namespace where nspname ~ '^pg_|^information')
    union all
    select 'function', p.oid::regprocedure::text, p.prosrc from pg_proc p
    where p.pronamespace not in (select oid from pg_namespace where nspname ~ '^pg_|^information')
    union all
    select 'schema', nspname, nspacl::text from pg_namespace where nspname !~ '^pg_'
    order by 1, 2, 3
"""


async def check_it_works(saver: Any) -> None:
    """Put, replace, write, read, list, delete; with a thread of its own."""
    first = await put(saver, config_of("check"), "1", {"x": ["1"] * 1000})
    await saver.aput_writes(first, [("x", 1)], "task")
    second = await put(saver, first, "2", {"x": ["1"] * 1000 + ["2"]})
    await put(saver, first, "2", {"x": ["1"] * 1000 + ["3"]})
    assert await values_of(saver, second) == {"x": ["1"] * 1000 + ["3"]}
    assert await listed_ids(saver, config_of("check")) == ["2", "1"]
    await saver.adelete_thread("check")
    assert await listed(saver, config_of("check")) == []


# --- how often, and how many


async def test_setup_of_an_empty_database_is_idempotent(kind: str, empty_database_uri: str) -> None:
    """Through every kind of connection, and again at once."""
    tables = Tables(empty_database_uri)
    async with open_saver(kind, empty_database_uri) as saver:
        await saver.setup()
        await check_it_works(saver)
        catalog = tables.rows(CATALOG)
        migrations = tables.rows("select * from {schema}.migrations order by applied_at")
        before = tables.contents()

        await saver.setup()

    assert [name for name, *_ in migrations] == SCRIPTS
    assert tables.rows("select * from {schema}.migrations order by applied_at") == migrations
    assert tables.rows(CATALOG) == catalog
    assert tables.contents() == before


@BOTH
async def test_setup_logs_one_line(kind: str, empty_database_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """What was there, what is there now and how long it took; nothing where nothing changes; each script at debug."""
    caplog.set_level(logging.DEBUG, logger="eventlog")

    def logged() -> list[logging.LogRecord]:
        found = [record for record in caplog.records if record.name == "eventlog" and record.levelno < logging.WARNING]
        caplog.clear()
        return found

    async with open_saver(kind, empty_database_uri) as saver:
        await saver.setup()
        *scripts, line = logged()
        assert [(record.event, record.levelno) for record in scripts] == [("eventlog.migrated", logging.DEBUG)] * len(
            SCRIPTS
        )
        assert line.levelno == logging.INFO
        assert line.getMessage() == (
            f"eventlog.set_up schema='eventlog' from_version=0 to_version={len(MIGRATIONS)} scripts={len(SCRIPTS)} "
            f"milliseconds={line.milliseconds}"
        )

        await saver.setup()
        assert logged() == []

        Tables(empty_database_uri).run("delete from {schema}.migrations where name = 'make_partition_v1'")
        await saver.setup()
        script, line = logged()
        assert (script.event, script.script) == ("eventlog.migrated", "make_partition_v1")
        assert (line.from_version, line.to_version, line.scripts) == (len(MIGRATIONS), len(MIGRATIONS), 1)


@BOTH
async def test_sixteen_concurrent_setups_apply_each_script_once(kind: str, empty_database_uri: str) -> None:
    """Replicas that start together: each script is applied once, and every one of them can go on."""
    tables = Tables(empty_database_uri)

    async def replica(number: int) -> None:
        # Not all of them have the same settings.
        connect = {"autocommit": number % 2 == 0}
        async with open_saver(kind, empty_database_uri, connect=connect, partitions_ahead=number % 4) as saver:
            await start.wait()
            await saver.setup()
            await put(saver, config_of(number), "1", {"x": number})

    start = asyncio.Event()
    replicas = [asyncio.create_task(replica(number)) for number in range(16)]
    await asyncio.sleep(0.1)
    start.set()
    await asyncio.gather(*replicas)

    applied = tables.rows("select name from {schema}.migrations order by applied_at")
    assert [name for (name,) in applied] == SCRIPTS
    assert tables.events() == 16
    assert tables.one("select count(*) from {schema}.partitions") == 4


@BOTH
async def test_setup_waits_for_the_lock_and_gives_up_at_the_timeout(
    kind: str, empty_database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the lock, and does not go on without it when that takes too long."""
    tables = Tables(empty_database_uri)
    async with open_saver(kind, empty_database_uri) as saver:
        with psycopg.connect(empty_database_uri) as other:
            other.execute("select pg_advisory_xact_lock(hashtextextended('eventlog:eventlog', 0))")
            waiting = asyncio.create_task(saver.setup())
            await asyncio.sleep(0.3)
            assert not waiting.done()
            assert tables.one("select to_regnamespace('eventlog')") is None
            other.rollback()
            await waiting
            await check_it_works(saver)

            other.execute("select pg_advisory_xact_lock(hashtextextended('eventlog:eventlog', 0))")
            monkeypatch.setattr("eventlog.db.migrations.LOCK_TIMEOUT_SECONDS", 0.2)
            with pytest.raises(MigrationError, match=r"has held the migration lock .* process \d+ of user 'postgres'"):
                await saver.setup()


@BOTH
async def test_setup_resumes_after_a_failed_script(kind: str, empty_database_uri: str) -> None:
    """It goes on where it stopped, and repeats nothing."""
    tables = Tables(empty_database_uri)
    arguments = "text, text, text, bigint, timestamptz"
    tables.run(
        "create schema {schema}",
        f"create function {{schema}}.read_checkpoint_v1({arguments}) returns text language sql as 'select $1'",
    )
    done = SCRIPTS[: SCRIPTS.index("read_checkpoint_v1")]
    async with open_saver(kind, empty_database_uri) as saver:
        for _ in range(2):
            with pytest.raises(StorageError, match="cannot change return type of existing function"):
                await saver.setup()
            applied = tables.rows("select * from {schema}.migrations order by applied_at")
            assert [name for name, *_ in applied] == done

        tables.run(f"drop function {{schema}}.read_checkpoint_v1({arguments})")
        await saver.setup()

        after = tables.rows("select * from {schema}.migrations order by applied_at")
        assert after[: len(done)] == applied
        assert [name for name, *_ in after] == SCRIPTS
        await check_it_works(saver)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_setup_needs_one_connection_of_the_pool(mode: str, empty_database_uri: str) -> None:
    """Nothing in it asks for a second one; and when another session has it, the error says so."""
    one: dict[str, Any] = {"min_size": 1, "max_size": 1, "timeout": 120, "open": False, "kwargs": {"autocommit": True}}
    if mode == "sync":
        with ConnectionPool(empty_database_uri, **one) as pool:
            saver = EventLogSaver(pool)
            await asyncio.to_thread(saver.setup)
            pool.timeout = 0.5
            with (
                pool.connection(),
                pytest.raises(StorageError, match=r"gave no connection: .* Raise max_size"),
            ):
                await asyncio.to_thread(saver.setup)
            await check_it_works(AsyncFace(saver))
    else:
        async with AsyncConnectionPool(empty_database_uri, **one) as apool:
            asaver = AsyncEventLogSaver(apool)
            await asaver.setup()
            apool.timeout = 0.5
            async with apool.connection():
                with pytest.raises(StorageError, match=r"gave no connection: .* Raise max_size"):
                    await asaver.setup()
            await check_it_works(asaver)


@BOTH
async def test_setup_in_a_failed_transaction_asks_for_a_rollback(kind: str, empty_database_uri: str) -> None:
    """The user has to roll it back first."""
    async with open_saver(kind, empty_database_uri) as saver:
        conn = (saver.sync if kind.startswith("sync") else saver)._driver._conn

        async def run(statement: bytes) -> None:
            done = conn.execute(statement)
            if asyncio.iscoroutine(done):
                await done

        await run(b"begin")
        with pytest.raises(psycopg.errors.DivisionByZero):
            await run(b"select 1 / 0")
        with pytest.raises(StorageError, match="current transaction is aborted"):
            await saver.setup()
        await run(b"rollback")
        await saver.setup()
        await check_it_works(saver)


# --- databases that do not fit


@BOTH
async def test_setup_on_a_read_only_connection_says_why_it_fails(kind: str, empty_database_uri: str) -> None:
    """It cannot set up anything, and says why; where there is nothing to do, it does that."""
    read_only = {"autocommit": True, "options": "-c default_transaction_read_only=on"}
    async with (
        # PgBouncer passes on no options.
        open_saver(kind, direct(empty_database_uri), connect=read_only) as reader,
        open_saver(kind, empty_database_uri) as owner,
    ):
        with pytest.raises(StorageError, match=r"cannot execute CREATE SCHEMA in a read-only transaction"):
            await reader.setup()
        await owner.setup()
        await reader.setup()
        Tables(empty_database_uri).drop_partitions()
        with pytest.raises(StorageError, match=r"in a read-only transaction"):
            await reader.setup()


@BOTH
async def test_a_database_newer_than_the_code_is_refused(kind: str, database_uri: str) -> None:
    """Says what it found and what to do, and applies nothing."""
    tables = Tables(database_uri)
    tables.run(
        "insert into {schema}.migrations (name, checksum) values ('future', 'x')",
        "delete from {schema}.migrations where name = 'event_leaf_v1'",
    )
    before = tables.rows("select * from {schema}.migrations order by name")

    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(DatabaseTooNewError, match=r"newer version.*upgrade the package") as caught:
            await saver.setup()
        assert "future" in str(caught.value)

    assert tables.rows("select * from {schema}.migrations order by name") == before


@BOTH
async def test_a_script_with_a_checksum_mismatch_is_named(kind: str, database_uri: str) -> None:
    """Names the script."""
    tables = Tables(database_uri)
    tables.run("update {schema}.migrations set checksum = 'other' where name = 'guard'")

    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(MigrationError, match=r"checksum mismatch for guard: .* different build"):
            await saver.setup()
        # Replicas of the version that did apply it go on.
        await check_it_works(saver)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@BOTH
async def test_a_database_encoding_that_cannot_hold_all_text_is_refused(
    kind: str, encoding: str, server: Server
) -> None:
    """The encoding is fixed when a database is made: better to hear of it now.

    Connections take on the database's encoding, unless they are told otherwise.
    """
    name = f"encoding_{encoding}_{kind}".lower().replace("-", "_")
    with psycopg.connect(server.uri("postgres"), autocommit=True) as admin:
        create = "create database {} template template0 encoding {} lc_collate 'C' lc_ctype 'C'"
        admin.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding)))
    try:
        async with open_saver(kind, server.uri(name)) as saver:
            with pytest.raises(InvalidInputError, match=f"client_encoding is {encoding}, .* use UTF8"):
                await saver.setup()
        for way in (kind, kind.replace("connection", "string")):
            # PostgreSQL converts from SQL_ASCII to nothing, and so lets any encoding be asked for.
            connect = {"autocommit": True, "client_encoding": "utf8"}
            async with open_saver(way, server.uri(name) + "&client_encoding=utf8", connect=connect) as saver:
                with pytest.raises(
                    MigrationError, match=f"encoding is {encoding}, .* create database … encoding 'UTF8'"
                ):
                    await saver.setup()
        with psycopg.connect(server.uri(name)) as conn:
            assert conn.execute("select to_regnamespace('eventlog')").fetchone() == (None,)
    finally:
        server.drop_database(name)


# --- schemas


@pytest.mark.parametrize("schema", ["Mixed", "with space", "a-b.c", "select", "ünïcode_1", "_", "x" * 63])
async def test_any_schema_name_that_postgresql_holds_works(schema: str, empty_database_uri: str) -> None:
    """Any that PostgreSQL can hold; nothing is left elsewhere."""
    tables = Tables(empty_database_uri, schema)
    before = tables.rows(CATALOG)
    async with open_saver("sync-pool", empty_database_uri, schema=schema) as saver:
        await saver.setup()
        await check_it_works(saver)
        await saver.setup()
        tables.drop_partitions()
        await check_it_works(saver)
        assert tables.events() > 0
    tables.run("drop schema {schema} cascade")
    assert tables.rows(CATALOG) == before


@BOTH
async def test_invalid_schema_names_are_refused_when_the_saver_is_made(kind: str, server: Server) -> None:
    for schema in (
        *("", "x" * 64, "ü" * 32, "1a", " a", "-a", 'a"b', "a'b", "a;b", "a{b}", "a%s", "a\0b", "a\n", "\ud800"),
        *("pg_x", "information_schema", 5, None),
    ):
        with pytest.raises(InvalidInputError, match="setting 'schema'"):
            async with open_saver(kind, server.uri("postgres"), schema=schema):
                pass


@BOTH
async def test_two_schemas_in_one_database_are_independent(kind: str, empty_database_uri: str) -> None:
    """Each has its own log, partitions and migrations; one that is dropped takes nothing along."""
    one, other = (Tables(empty_database_uri, schema) for schema in ("One", "two"))
    async with (
        open_saver(kind, empty_database_uri, schema="One", partition_interval="day") as first,
        open_saver(kind, empty_database_uri, schema="two") as second,
    ):
        await asyncio.gather(first.setup(), second.setup())
        await put(first, config_of(), "1", {"x": "one"})
        await put(second, config_of(), "1", {"x": "two"})
        await put(second, config_of(), "2", {"x": "two"})

        assert await values_of(first, config_of()) == {"x": "one"}
        assert await listed_ids(first, None) == ["1"]
        assert await listed_ids(second, None) == ["2", "1"]
        await first.adelete_thread("1")
        assert await listed_ids(first, None) == []
        assert await values_of(second, config_of("1", "1")) == {"x": "two"}
        assert (one.events(), other.events()) == (1, 2)
        one.run("drop schema {schema} cascade")
        await second.setup()
        await check_it_works(second)


@BOTH
async def test_a_log_is_distributed_only_on_a_citus_cluster(kind: str, database_uri: str) -> None:
    """Any other database says what it lacks, and stays as it is."""
    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(MigrationError, match="create extension citus"):
            await saver.setup(citus=True)
        for given in ({"shards": 8}, {"citus": True, "shards": 0}, {"citus": True, "shards": "8"}, {"citus": "yes"}):
            with pytest.raises(InvalidInputError, match=r"citus|shards"):
                await saver.setup(**given)
        await saver.setup()
        await check_it_works(saver)
        assert (await saver.log.verify()).problems == []
