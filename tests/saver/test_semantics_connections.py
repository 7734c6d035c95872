"""Whatever connection a user has: row factories, transactions, copies of savers, other threads."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import psycopg
import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from psycopg.rows import args_row, dict_row, namedtuple_row, scalar_row, tuple_row

from eventlog.errors import EventLoopError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.adapters import AsyncFace, open_saver
from tests.support.checkpoints import (
    Tables,
    checkpoint_of,
    config_of,
    listed,
    listed_ids,
    put,
    values_of,
)
from tests.support.pooler import direct

pytestmark = pytest.mark.portable

POOLS = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
CONNECTIONS = pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])


async def exercise(saver: Any) -> None:
    """A bit of everything."""
    first = await put(saver, config_of(), "1", {"x": ["1"] * 2000}, metadata={"step": 1})
    await saver.aput_writes(first, [("x", 1)], "task")
    await put(saver, first, "2", {"x": ["1"] * 2000 + ["2"]}, metadata={"step": 2})
    await put(saver, first, "2", {"x": ["1"] * 2000 + ["3"]}, metadata={"step": 2})
    assert await values_of(saver, config_of()) == {"x": ["1"] * 2000 + ["3"]}
    assert (await saver.aget_tuple(first)).pending_writes == [("task", "x", 1)]
    assert await listed_ids(saver, None, filter={"step": 2}) == ["2"]
    history = await saver.aget_delta_channel_history(config=config_of(), channels=["x"])
    assert history["x"]["seed"] == ["1"] * 2000
    await saver.adelete_thread("1")
    assert await listed(saver, config_of()) == []


@pytest.mark.parametrize(
    "row_factory",
    [tuple_row, dict_row, namedtuple_row, scalar_row, args_row(lambda *_: None)],
    ids=["tuple", "dict", "namedtuple", "scalar", "args"],
)
@CONNECTIONS
async def test_any_row_factory_works(kind: str, row_factory: Any, empty_database_uri: str) -> None:
    """How the user's own queries return rows is nothing to us, in `setup()` either."""
    connect = {"autocommit": True, "row_factory": row_factory}
    async with open_saver(kind, empty_database_uri, connect=connect) as saver:
        await saver.setup()
        await exercise(saver)


@pytest.mark.parametrize("cursor_factory", ["ClientCursor", "RawCursor"])
@CONNECTIONS
async def test_any_cursor_factory_works(kind: str, cursor_factory: str, database_uri: str) -> None:
    """Cursors of the user's choice may bind on the client, or know other placeholders."""
    name = cursor_factory if kind.startswith("sync") else f"Async{cursor_factory}"
    connect = {"autocommit": True, "cursor_factory": getattr(psycopg, name)}
    async with open_saver(kind, database_uri, connect=connect) as saver:
        await exercise(saver)


@pytest.mark.parametrize(
    "connect",
    [
        {},
        {"autocommit": False, "prepare_threshold": None},
        {"autocommit": True, "prepare_threshold": None},
        {"autocommit": False, "prepare_threshold": 0},
    ],
    ids=["none", "none prepared", "autocommit", "all prepared"],
)
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool", "sync-connection", "async-connection"])
async def test_connections_without_the_guides_settings_are_durable(
    kind: str, connect: Mapping[str, Any], empty_database_uri: str
) -> None:
    """Every call is durable when it returns, and leaves no transaction open."""
    tables = Tables(empty_database_uri)
    async with open_saver(kind, empty_database_uri, connect=connect) as saver:
        await saver.setup()
        stored = await put(saver, config_of("kept"), "1", {"x": 1})
        assert tables.events() == 1
        await saver.aput_writes(stored, [("x", 1)], "task")
        assert tables.events() == 2
        assert await values_of(saver, stored) == {"x": 1}
        await exercise(saver)
        idle = tables.one(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and state ~ '^idle in transaction'"
        )
        assert idle == 0


@asynccontextmanager
async def user_connection(
    kind: str, uri: str, autocommit: bool
) -> AsyncIterator[tuple[Any, Callable[..., Any], Callable[[str], Any]]]:
    """A user's connection: its saver, its `transaction()` as async context, and its `execute`.

    Pipelines are the user's own here.
    """
    pipeline = kind.endswith("pipeline")
    if kind.startswith("async"):
        aconn = await psycopg.AsyncConnection.connect(uri, autocommit=autocommit)
        async with aconn, aconn.pipeline() if pipeline else nullcontext() as apipe:
            yield AsyncEventLogSaver(aconn, apipe), aconn.transaction, aconn.execute
        return

    with psycopg.connect(uri, autocommit=autocommit) as conn:

        @asynccontextmanager
        async def transaction(**options: Any) -> AsyncIterator[None]:
            with conn.transaction(**options):
                yield

        async def execute(statement: str) -> Any:
            return conn.execute(statement)

        with conn.pipeline() if pipeline else nullcontext() as pipe:
            yield AsyncFace(EventLogSaver(conn, pipe)), transaction, execute


USERS = pytest.mark.parametrize("kind", ["sync-connection", "async-connection", "sync-pipeline", "async-pipeline"])
AUTOCOMMIT = pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "manual"])


@AUTOCOMMIT
@USERS
async def test_puts_roll_back_with_the_users_transaction(kind: str, autocommit: bool, database_uri: str) -> None:
    """Puts stand or fall with the user's transaction; what fell is not built on afterwards."""
    tables = Tables(database_uri)
    large = ["x"] * 3000
    async with user_connection(kind, database_uri, autocommit) as (saver, transaction, _):
        first = await put(saver, config_of(), "1", {"x": large, "y": 0})
        before = tables.contents()

        async with transaction(force_rollback=True):
            # More than one round: an id that is taken, and a base that was replaced.
            second = await put(saver, first, "2", {"x": [*large, "lost"], "y": 1})
            await put(saver, first, "2", {"x": [*large, "lost"], "y": 1})
            await put(saver, first, "2", {"x": [*large, "lost too"], "y": 1})
            await saver.aput_writes(second, [("x", "lost")], "task")
            third = await put(saver, second, "3", {"z": large})
            assert await listed_ids(saver, config_of()) == ["3", "2", "1"]

        assert tables.contents() == before
        assert await saver.aget_tuple(second) is None
        assert await values_of(saver, config_of()) == {"x": large, "y": 0}
        # The saver's cache has states that were never committed.
        versions = {"x": "3", "y": "2"}
        child = await put(saver, second, "3", {"y": 5}, versions=versions, new={"y": "2"})
        assert "x" not in await values_of(saver, child)
        assert third == child

        async with transaction():
            second = await put(saver, first, "2", {"x": [*large, "kept"]})
            assert tables.events() == 2
        assert tables.events() == 3
        assert await values_of(saver, second) == {"x": [*large, "kept"]}
        await saver.aput_writes(second, [("x", "kept")], "task")

    async with open_saver(kind, database_uri) as other:
        found = await other.aget_tuple(second)
        assert found.checkpoint["channel_values"] == {"x": [*large, "kept"]}
        assert found.pending_writes == [("task", "x", "kept")]
        assert await values_of(other, first) == {"x": large, "y": 0}
    assert [seq for (seq,) in tables.rows("select seq from {schema}.events order by 1")] == [*(1, 2, 3, 4)]


@CONNECTIONS
async def test_a_rolled_back_state_is_no_base_for_a_reused_seq(kind: str, database_uri: str) -> None:
    """What was rolled back may still be in the cache when another event has its number, and even its id."""
    large = ["large"] * 1000
    async with (
        user_connection(kind, database_uri, True) as (saver, transaction, _),
        open_saver(kind, database_uri) as other,
    ):
        first = await put(saver, config_of(), "1", {"x": large})
        async with transaction(force_rollback=True):
            lost = await put(saver, first, "2", {"x": [*large, "lost"], "y": "lost"})
        stored = await put(other, first, "2", {"x": [*large, "kept"], "y": "kept"})
        assert stored == lost

        child = await put(saver, stored, "3", {"z": 1}, versions={"x": "2", "y": "2", "z": "3"}, new={"z": "3"})

        for reader in (saver, other):
            assert await values_of(reader, child) == {"x": [*large, "kept"], "y": "kept", "z": 1}

        async with transaction(force_rollback=True):
            await put(saver, child, "4", {"x": [*large, "lost"]})
        stored = await put(other, child, "4", {"x": [*large, "kept"]})
        for config in (stored, config_of()):
            assert await values_of(saver, config) == {"x": [*large, "kept"]}
        assert [seq for (seq,) in Tables(database_uri).rows("select seq from {schema}.events order by 1")] == [
            *(1, 2, 3, 4)
        ]


@CONNECTIONS
async def test_a_transaction_that_the_user_began_stays_open(kind: str, database_uri: str) -> None:
    """Without autocommit, any statement of the user's begins a transaction, which is theirs."""
    tables = Tables(database_uri)
    async with user_connection(kind, database_uri, autocommit=False) as (saver, _, execute):
        await execute("create table users_own (x int)")
        await put(saver, config_of(), "1", {"x": 1})
        assert tables.events() == 0
        await execute("rollback")

        assert await saver.aget_tuple(config_of()) is None
        assert tables.one("select to_regclass('users_own')") is None

        await execute("create table users_own (x int)")
        await put(saver, config_of(), "1", {"x": 1})
        await execute("commit")
        assert tables.events() == 1
        assert tables.one("select to_regclass('users_own')") == "users_own"


@AUTOCOMMIT
@USERS
async def test_making_a_partition_keeps_the_users_transaction(kind: str, autocommit: bool, database_uri: str) -> None:
    """The append that finds no partition must not spoil what the user has done so far."""
    tables = Tables(database_uri)
    tables.drop_partitions()
    async with user_connection(kind, database_uri, autocommit) as (saver, transaction, execute):
        async with transaction():
            await execute("create table users_own (x int)")
            await put(saver, config_of(), "1", {"x": 1})
        assert await values_of(saver, config_of()) == {"x": 1}
    assert tables.events() == 1
    assert tables.one("select to_regclass('users_own')") == "users_own"


# --- several savers


async def test_a_checkpoint_replaced_by_another_saver_is_no_base(kind: str, database_uri: str) -> None:
    """A frame in a saver's cache is no base any more once its checkpoint was put again."""
    large = ["large"] * 1000
    async with open_saver(kind, database_uri) as saver, open_saver(kind, database_uri) as other:
        root = await put(saver, config_of(), "1", {"x": [*large, "old"], "y": "old"})
        # As two processes may: one goes on with a run that the other one restarts.
        await put(other, config_of(), "1", {"x": [*large, "new"], "y": "new"})
        child = await put(saver, root, "2", {"z": 1}, versions={"x": "1", "y": "1", "z": "2"}, new={"z": "2"})

        for reader in (saver, other):
            assert await values_of(reader, child) == {"x": [*large, "new"], "y": "new", "z": 1}
            assert await values_of(reader, root) == {"x": [*large, "new"], "y": "new"}
            assert await values_of(reader, config_of()) == {"x": [*large, "new"], "y": "new", "z": 1}


# --- copies


@POOLS
async def test_copies_share_cache_and_pool(kind: str, database_uri: str) -> None:
    """LangGraph copies a saver to add to what it may deserialize."""
    tables = Tables(database_uri)
    serde = JsonPlusSerializer(allowed_msgpack_modules=[("tests.nowhere", "Thing")])
    async with open_saver(kind, database_uri, serde=serde) as saver:
        allowed = saver.with_allowlist([("langchain_core.messages.ai", "AIMessage")])
        shallow = copy.copy(saver.sync) if kind == "sync-pool" else copy.copy(saver)
        shallow = AsyncFace(shallow) if kind == "sync-pool" else shallow
        assert allowed.serde is not saver.serde
        sync = saver.sync if kind == "sync-pool" else saver
        other = allowed.sync if kind == "sync-pool" else allowed
        # Each is made once for its serializer, whichever copy asks, and in whatever order.
        made = [each._writer.reader for each in (sync, other, sync, other)]
        assert made[0] is made[2] is not made[1] is made[3]
        assert [each.serde for each in made[:2]] == [sync.serde, other.serde]

        # Puts of small states do not read their parent: that they are differences shows that
        # the parent's frame was found in the cache.
        config = await put(saver, config_of(), "1", {"x": AIMessage("hi")})
        config = await put(allowed, config, "2", {"y": 2})
        config = await put(shallow, config, "3", {"z": 3})
        await put(saver, config, "4", {"a": 4})
        bases = tables.rows("select base_seq from {schema}.events order by seq")
        assert bases == [(None,), (1,), (2,), (3,)]

        # Nothing that can be seen from outside tells how many pools there are.
        assert saver._driver is allowed._driver is shallow._driver
        for each in (saver, allowed, shallow):
            assert each.log._driver is saver._driver
            assert each.log._context is saver._context
            assert each.log.serde.allow == each.serde._allowed_msgpack_modules
        for reader in (saver, allowed, shallow):
            found = await reader.aget_tuple(config_of("1", "1"))
            assert found.checkpoint["channel_values"] == {"x": AIMessage("hi")}


# --- the async saver's sync methods


@pytest.mark.parametrize("kind", ["async-pool", "async-connection", "async-string", "async-pipeline"])
async def test_sync_methods_work_from_another_thread(saver: Any) -> None:
    """Tools and nodes that are not async run in threads, and may look at the state."""

    def use() -> list[Any]:
        first = saver.put(config_of(), checkpoint_of("1", {"x": 1}, {"x": "1"}), {}, {"x": "1"})
        saver.put_writes(first, [("x", 2)], "task")
        second = saver.put(first, checkpoint_of("2", {"x": 3}, {"x": "2"}), {"step": 1}, {"x": "2"})
        found = saver.get_tuple(first)
        assert found.pending_writes == [("task", "x", 2)]
        assert saver.get(second)["channel_values"] == {"x": 3}
        assert [each.checkpoint["id"] for each in saver.list(config_of())] == ["2", "1"]
        assert [each.checkpoint["id"] for each in saver.list(None, filter={"step": 1})] == ["2"]
        # One that stops early leaves nothing behind.
        assert next(saver.list(config_of(), limit=2)).checkpoint["id"] == "2"
        history = saver.get_delta_channel_history(config=second, channels=["x"])
        saver.put(config_of("2"), checkpoint_of("1", {}, {}), {}, {})
        saver.delete_thread("2")
        return [history["x"]["seed"], saver.get_tuple(config_of("2"))]

    assert await asyncio.to_thread(use) == [1, None]
    # From several at once, while the loop itself goes on with the saver.
    config = config_of("1", "2")
    results = await asyncio.gather(
        *(asyncio.to_thread(saver.get_tuple, config) for _ in range(8)),
        *(saver.aget_tuple(config) for _ in range(8)),
    )
    assert [found.checkpoint["channel_values"] for found in results] == [{"x": 3}] * 16


@pytest.mark.parametrize("kind", ["async-pool", "async-connection"])
async def test_sync_methods_in_the_savers_loop_raise(saver: Any, database_uri: str) -> None:
    """They would wait for ever for the loop that they block: an error says what to do instead."""
    await put(saver, config_of(), "1", {"x": 1})
    tables = Tables(database_uri)
    before = tables.contents()
    config = config_of("1", "1")

    for call in (
        lambda: saver.get_tuple(config),
        lambda: saver.get(config),
        lambda: next(saver.list(config)),
        lambda: saver.put(config, checkpoint_of("2", {}, {}), {}, {}),
        lambda: saver.put_writes(config, [("x", 1)], "task"),
        lambda: saver.delete_thread("1"),
        lambda: saver.get_delta_channel_history(config=config, channels=["x"]),
    ):
        with pytest.raises(EventLoopError, match="await the async method"):
            call()

    assert tables.contents() == before
    assert await values_of(saver, config) == {"x": 1}


def test_sync_methods_after_the_loop_closed_raise(database_uri: str) -> None:
    """There is no loop to run them on any more: that is said, instead of waiting."""

    async def leave() -> Any:
        async with AsyncEventLogSaver.from_conn_string(database_uri) as saver:
            await put(saver, config_of(), "1")
            return saver

    saver = asyncio.run(leave())

    with pytest.raises(EventLoopError, match="Use EventLogSaver in synchronous programs"):
        saver.get_tuple(config_of())
    with pytest.raises(EventLoopError, match="not running"):
        next(saver.list(None))


def test_a_second_event_loop_is_refused(database_uri: str) -> None:
    """Connections belong to the loop that they are used in: another one would wait for ever, or fail in riddles."""
    opened: list[Any] = []

    async def use_once() -> None:
        conn = await psycopg.AsyncConnection.connect(database_uri, autocommit=True)
        opened.extend((AsyncEventLogSaver(conn), conn))
        await put(opened[0], config_of(), "1", {"x": 1})

    async def use_again() -> None:
        before = Tables(database_uri).contents()
        config = config_of("1", "1")
        for call in (
            opened[0].aget_tuple(config),
            opened[0].aput_writes(config, [("x", 1)], "task"),
            anext(opened[0].alist(config)),
            anext(opened[0].log.history("1")),
            opened[0].setup(),
        ):
            with pytest.raises(EventLoopError, match="a saver in each event loop"):
                await call
        assert Tables(database_uri).contents() == before
        await opened[1].close()

    asyncio.run(use_once())
    asyncio.run(use_again())


async def test_a_running_loop_beside_the_savers_is_refused(database_uri: str) -> None:
    async with AsyncEventLogSaver.from_conn_string(database_uri) as saver:
        await put(saver, config_of(), "1", {"x": 1})

        def elsewhere() -> None:
            asyncio.run(saver.aget_tuple(config_of()))

        with pytest.raises(EventLoopError, match="was used in another event loop"):
            await asyncio.to_thread(elsewhere)
        assert await values_of(saver, config_of()) == {"x": 1}


@POOLS
async def test_a_statement_is_prepared_once(saver: Any, kind: str, database_uri: str) -> None:
    """Not again for each size of a number, or for NULL: preparing is a round trip of its own."""
    connect = {"autocommit": True, "prepare_threshold": 0}
    # Behind a pooler, nothing is prepared (tests/database/test_poolers.py).
    async with open_saver(kind.replace("pool", "connection"), direct(database_uri), connect=connect) as one:
        await exercise(one)
        for number in range(40):
            config = await put(one, config_of("many", f"{number - 1:02}" if number else None), f"{number:02}", {"x": 1})
            await one.aput_writes(config, [("x", 1)], "task")
            await one.aget_tuple(config)
        conn = (one.sync if isinstance(one, AsyncFace) else one)._driver._conn
        query = "select statement, parameter_types::text[] from pg_prepared_statements where statement ~ 'append|read_'"
        cursor = conn.execute(query) if isinstance(one, AsyncFace) else await conn.execute(query)
        rows = cursor.fetchall() if isinstance(one, AsyncFace) else await cursor.fetchall()
    statements = [row[0] for row in rows]
    assert any("append_checkpoint_v1" in statement for statement in statements)
    assert len(statements) == len(set(statements)), rows
