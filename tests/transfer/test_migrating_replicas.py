"""MigratingSaver: several replicas at once, rights, other old savers, and bad input."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from psycopg import errors as pg
from psycopg import sql

from eventlog.errors import (
    EventLoopError,
    InvalidInputError,
    MissingGrantError,
    ThreadNotImportedError,
)
from langgraph.checkpoint.eventlog import MigratingSaver
from langgraph.checkpoint.eventlog.aio import AsyncMigratingSaver
from langgraph.checkpoint.eventlog.transfer import fence
from langgraph.checkpoint.eventlog.transfer.source import ask
from tests.database.test_rights import as_role, grant, role
from tests.support.adapters import AsyncFace, open_saver
from tests.support.checkpoints import Tables, config_of, listed, listed_ids, put
from tests.support.pooler import direct
from tests.support.scenarios import MODES, Mode, in_context
from tests.transfer.migrating import (
    FENCED,
    POOLS,
    at_once,
    mark_of,
    migrating,
    native,
    open_migrating,
    prepare,
    put_up_fence,
)
from tests.transfer.old_savers import fill, latest_id, open_incumbent, open_old

__all__ = ["in_context", "role"]  # fixtures


# --- several at once


@pytest.mark.portable
@FENCED
@POOLS
async def test_replicas_that_miss_at_once_import_once(kind: str, fenced: bool, uri: str) -> None:
    await prepare(kind, uri, fenced, "1")

    async def read() -> Any:
        async with open_migrating(kind, uri) as saver:
            return [each.checkpoint["id"] for each in await listed(saver, config_of("1"))]

    found = await at_once(kind.split("-")[0], *[read] * 6)
    assert found == [["c", "b", "a"]] * 6
    tables = Tables(uri)
    assert [says["operation"] for says in tables.records("1")] == ["import"]
    assert tables.one("select count(*) from {schema}.events where kind = 1") == 3


@POOLS
async def test_old_and_new_replicas_share_the_threads(kind: str, uri: str) -> None:
    """Each thread goes on in one place, whichever comes first: nothing is lost of what was acknowledged."""
    await put_up_fence(uri)
    acknowledged: dict[str, set[str]] = {f"{number}": set() for number in range(6)}

    async def write(saver: Any, name: str) -> None:
        for number in range(60):
            thread_id = f"{number % 6}"
            id_ = f"{number:04} {name}"
            try:
                await put(saver, config_of(thread_id), id_, {"x": [id_]})
            except (pg.ObjectInUse, pg.ObjectNotInPrerequisiteState):
                continue
            acknowledged[thread_id].add(id_)

    async def old_replica() -> None:
        async with open_old(kind, uri) as old:
            await write(old, "old")

    async def new_replica() -> None:
        async with open_migrating(kind, uri) as saver:
            await write(saver, "new")

    await at_once(kind.split("-")[0], old_replica, new_replica, old_replica, new_replica)
    async with open_migrating(kind, uri) as saver:
        for thread_id, ids in acknowledged.items():
            assert set(await listed_ids(saver, config_of(thread_id))) == ids


@POOLS
async def test_a_thread_that_was_moved_to_another_log_is_not_taken_for_a_new_one(kind: str, uri: str) -> None:
    await prepare(kind, uri, True, "1", "2")
    async with open_migrating(kind, uri) as saver:
        for thread_id in "12":
            assert await latest_id(saver, thread_id) == "c"
    Tables(uri).run("drop schema {schema} cascade")
    async with open_migrating(kind, uri) as saver:
        await saver.setup()
        for call in (saver.aget_tuple(config_of("1")), put(saver, config_of("1"), "x", {"x": 1})):
            with pytest.raises(ThreadNotImportedError, match="it was moved to another log"):
                await call
        assert (await saver.log.import_from(uri, thread_ids=["1"])).threads == {"imported": 1}
        assert await latest_id(saver, "1") == "c"
        await saver.adelete_thread("2")
        await put(saver, config_of("2"), "x", {"x": 1})


async def test_a_cancelled_move_is_resumed(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await prepare("async-pool", uri, True, "1")
    async with open_migrating("async-pool", uri) as saver:
        begun = asyncio.Event()
        original = fence.finish

        def waiting(statements: Any, thread_id: str) -> Any:
            async def wait() -> None:
                begun.set()
                await asyncio.sleep(600)

            yield from ask(wait)
            return (yield from original(statements, thread_id))

        with monkeypatch.context() as patch:
            patch.setattr(fence, "finish", waiting)
            reading = asyncio.ensure_future(saver.aget_tuple(config_of("1")))
            await begun.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        assert mark_of(uri, "1") == "moving"
        assert await latest_id(saver, "1") == "c"
        assert mark_of(uri, "1") == "moved"


async def test_sync_methods_of_the_async_saver_work_from_other_threads(uri: str) -> None:
    await prepare("async-pool", uri, True, "1", "2", "3")
    async with open_migrating("async-pool", uri) as saver:

        def use() -> list[str]:
            found = saver.get_tuple(config_of("1"))
            assert found is not None
            config = saver.put(found.config, {**found.checkpoint, "id": "d"}, {}, {})
            saver.put_writes(config, [("list", 1)], "task")
            assert "list" in saver.get_delta_channel_history(config=config, channels=["list"])
            saver.delete_thread("2")
            saver.prune(["3"])
            saver.copy_thread("3", "4")
            saver.delete_for_runs(["none"])
            return [each.checkpoint["id"] for each in saver.list(None)]

        assert await asyncio.to_thread(use) == ["d", "c", "c", "c", "b", "a"]
        with pytest.raises(EventLoopError):
            saver.get_tuple(config_of("1"))


@FENCED
@POOLS
async def test_what_rights_it_takes(kind: str, fenced: bool, uri: str, role: str) -> None:
    """On the log those of an importer, and of an eraser to delete; on the old tables those of PostgresSaver."""
    await prepare(kind, uri, fenced, "1", "2")
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        names = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations")
        tables = sql.SQL(", ").join(map(sql.Identifier, names))
        grants = sql.SQL("grant select, insert, update, delete on {} to {}")
        conn.execute(grants.format(tables, sql.Identifier(role)))
        if fenced:
            conn.execute(grants.format(sql.Identifier("moved"), sql.Identifier(role)))
    async with open_migrating(kind, as_role(uri, role)) as saver:
        with pytest.raises(MissingGrantError, match="eventlog grant"):
            await saver.aget_tuple(config_of("1"))
        await put(saver.old_face, config_of("1", "c"), "d", {"list": ["d"]})
        grant(uri, role, "importer")
        await fill(saver, "1", "e")
        assert await listed_ids(saver, config_of("1")) == ["e", "d", "c", "b", "a"]
        with pytest.raises(MissingGrantError, match="eventlog grant eraser"):
            await saver.adelete_thread("2")
        grant(uri, role, "eraser")
        await saver.adelete_thread("2")
        assert await latest_id(saver, "2") is None


# --- other old savers, and bad input


@pytest.mark.parametrize("mode", MODES)
async def test_any_saver_may_be_the_old_one(mode: Mode, uri: str) -> None:
    memory = InMemorySaver()
    old = AsyncFace(memory) if mode == "sync" else memory
    await fill(old, "1")
    await fill(old, "2")
    async with open_saver(f"{mode}-pool", uri) as new:
        saver = migrating(mode, old, new)
        assert await latest_id(saver, "1") == "c"
        await put(saver, config_of("1", "c"), "d", {"list": ["d"]})
        assert await listed_ids(saver, None) == ["d", "c", "c", "b", "b", "a", "a"]
        assert await listed_ids(new, None) == ["d", "c", "b", "a"]
        await saver.adelete_thread("2")
        await saver.adelete_thread("1")
        assert await listed_ids(saver, None) == []
        assert await listed_ids(old, None) == []
        # Threads of savers that count, which cannot compare numbers with texts.
        await put(old, config_of("3"), "a", {"x": [1]}, versions={"x": 1})
        assert await latest_id(saver, "3") == "a"
        assert saver.get_next_version(1, None) == 2
        assert isinstance(saver.get_next_version(None, None), str)


@POOLS
async def test_encrypted_threads_are_taken_over(kind: str, uri: str) -> None:
    aes = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with open_migrating(kind, uri, serde=aes) as saver:
        await fill(saver.old_face, "1")
        expected = await saver.old_face.aget_tuple(config_of("1"))
        assert await saver.aget_tuple(config_of("1")) == expected


@FENCED
@POOLS
async def test_a_thread_that_cannot_be_imported_stays_with_the_old_saver(kind: str, fenced: bool, uri: str) -> None:
    await prepare(kind, uri, fenced, "1")
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        conn.execute("update checkpoint_blobs set blob = '\\xc1' where version = 'b'")
    async with open_migrating(kind, uri) as saver:
        for _ in range(2):
            with pytest.raises(ThreadNotImportedError, match="thread '1' was not imported: checkpoint b"):
                await saver.aget_tuple(config_of("1"))
        await fill(saver.old_face, "1", "d")
        assert await listed_ids(saver.new_face, None) == []


@FENCED
@POOLS
async def test_tables_in_a_named_schema(kind: str, fenced: bool, uri: str) -> None:
    await prepare(kind, uri, False, "1")
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        conn.execute("create schema elsewhere")
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations"):
            conn.execute(f"alter table {table} set schema elsewhere")
    async with open_incumbent("async", uri, schema="elsewhere") as incumbent:
        if fenced:
            await incumbent.install_fence()
    async with open_migrating(kind, uri, schema="elsewhere") as saver:
        assert await latest_id(saver, "1") == "c"


async def test_savers_of_the_wrong_kind_are_refused(uri: str) -> None:
    async with (
        open_old("sync-pool", uri) as old,
        open_old("async-pool", uri) as async_old,
        open_saver("sync-pool", uri) as new,
        open_saver("async-pool", uri) as async_new,
    ):
        for make, wrong in (
            (lambda: MigratingSaver(async_old, native(new)), "old is an async saver, AsyncPostgresSaver"),
            (lambda: MigratingSaver(native(old), async_new), "new must be an EventLogSaver, not AsyncEventLogSaver"),
            (lambda: AsyncMigratingSaver(native(old), async_new), "old is a sync saver, PostgresSaver"),
            (lambda: AsyncMigratingSaver(async_old, native(new)), "new must be an AsyncEventLogSaver"),
            (lambda: MigratingSaver(InMemorySaver(), native(new), schema="x"), "the old saver has none"),
        ):
            with pytest.raises(InvalidInputError, match=wrong):
                make()
        saver = MigratingSaver(native(old), native(new))
        with pytest.raises(InvalidInputError):
            await asyncio.to_thread(saver.get_tuple, {"configurable": {}})
