"""A stream's name is random, and seals know the stream by it. It outlives the thread, and tells nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from langgraph.checkpoint.eventlog import Problem
from tests.support.adapters import POOLS, open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import Tables, config_of, put

__all__ = ["log"]  # a fixture

pytestmark = pytest.mark.portable

MISSING = "it has events, and its row in `streams` is missing"


class LogUnderTest:
    """A sealed log: 'erased' was sealed before all of it was erased, 'pruned' before a part was, 'new' never."""

    def __init__(self, uri: str, saver: Any) -> None:
        self.uri, self.saver, self.tables = uri, saver, Tables(uri)

    def names(self) -> dict[str, bytes]:
        return dict(self.tables.rows("select thread_id, name from {schema}.streams"))

    def tamper(self, *statements: str) -> None:
        with psycopg.connect(self.uri) as conn:
            conn.execute("set session_replication_role = replica")
            for statement in statements:
                conn.execute(statement.encode())

    async def problems(self, *threads: str) -> list[Problem]:
        return list((await self.saver.log.verify(list(threads) or None)).problems)


@pytest.fixture
async def world(kind: str, database_uri: str) -> AsyncIterator[LogUnderTest]:
    async with open_saver(kind, database_uri) as saver:
        for thread_id in ("kept", "pruned", "erased"):
            await grow(saver, thread_id)
        await saver.log.seal()
        await saver.log.prune(["pruned"], keep_last=1)
        await saver.adelete_thread("erased")
        await grow(saver, "new")
        yield LogUnderTest(database_uri, saver)


async def grow(saver: Any, thread_id: str) -> None:
    config = config_of(thread_id)
    for number in range(3):
        config = await put(saver, config, f"{number}", {"x": number})


@POOLS
async def test_each_stream_has_a_name_of_its_own(world: LogUnderTest) -> None:
    await put(world.saver, config_of("kept", ns="sub"), "1")
    await world.saver.acopy_thread("kept", "copied")
    names = [name for (name,) in world.tables.rows("select name from {schema}.streams")]
    assert len(set(names)) == len(names) == 7
    assert {len(name) for name in names} == {16}


@POOLS
async def test_no_table_knows_the_id_of_a_thread_that_is_gone(log: Log) -> None:
    """Nor a hash of it: an id may be an e-mail address, of which there are few enough to try all."""
    thread_id, ns = "ada@example.com", "sub"
    await log.grow(thread_id, "c1", "c2")
    await log.grow(thread_id, "c1", ns=ns)
    await log.saver.log.seal()
    await log.saver.adelete_thread(thread_id)
    await log.saver.log.seal()
    log.clock.advance(10 * DAY)
    await log.saver.log.retain(timedelta(days=2))
    await log.saver.log.seal()
    assert log.tables.one("select count(*) from {schema}.ended") == 2
    hashes = [sha256(each.encode()) for each in (thread_id, ns, thread_id + ns)]
    hashes += [sha256(hashes[0].digest() + sha256(each).digest()) for each in (b"", ns.encode())]
    tables = log.tables.rows(
        "select c.relname::text from pg_class as c where c.relnamespace = '{schema}'::regnamespace and c.relkind = 'r'"
    )
    assert len(tables) > 10
    for (table,) in tables:
        contents = str(log.tables.rows(f'select t::text from {{schema}}."{table}" as t'))  # type: ignore[arg-type]
        for each in (thread_id, *(found.hexdigest() for found in hashes)):
            assert each not in contents, table


@POOLS
async def test_a_rebuild_finds_the_names_that_seals_have(world: LogUnderTest) -> None:
    """By digests of events, and of erased ones. A stream that was never sealed gets another name."""
    before = world.names()
    world.tamper("delete from eventlog.streams")
    rebuilt = await world.saver.log.rebuild()
    assert rebuilt.streams == 4
    after = world.names()
    assert [thread_id for thread_id, name in after.items() if name != before[thread_id]] == ["new"]
    assert await world.problems() == []
    assert (await world.saver.log.seal()).changed == 3


@POOLS
async def test_a_rebuild_puts_names_right(world: LogUnderTest) -> None:
    """Also those that it gave, on a replica, before the seals had come."""
    before = world.names()
    world.tamper("update eventlog.streams set name = uuid_send(gen_random_uuid()) where thread_id <> 'new'")
    checked = await world.saver.log.rebuild(check=True)
    assert {(each.table, each.columns) for each in checked.differences} == {("streams", ("name",))}
    assert checked.differing["streams"] == 3
    assert (await world.saver.log.rebuild()).differing == {"streams": 3, "checkpoints": 0, "snapshots": 0}
    assert world.names() == before
    assert await world.problems() == []


@POOLS
async def test_an_append_to_a_lost_stream_finds_its_name(world: LogUnderTest) -> None:
    before = world.names()
    Tables(world.uri).run("delete from {schema}.streams where thread_id = 'kept'")
    await put(world.saver, config_of("kept", "2"), "3", {"x": 3})
    assert world.names() == before
    assert await world.problems() == []


@POOLS
async def test_a_lost_row_is_named_and_its_events_are_compared_with_the_seals(world: LogUnderTest) -> None:
    for thread_id in ("kept", "pruned", "erased"):
        world.tamper(f"delete from eventlog.streams where thread_id = '{thread_id}'")
        for threads in ([thread_id], []):
            assert MISSING in {each.what for each in await world.problems(*threads)}
            assert not [each for each in await world.problems(*threads) if "seal" in each.what]
    world.tamper("update eventlog.events set digest = sha256('') where thread_id = 'kept' and seq = 2")
    assert [each[1:4] for each in await world.problems("kept")][:2] == [
        ("", 0, MISSING),
        ("", 2, "altered, or another one was there before it"),
    ]
    world.tamper("update eventlog.events set digest = sha256('') where thread_id = 'kept'")
    assert [each.what for each in await world.problems() if each.stream] == [
        "missing: a stream that was sealed up to number 3 is not there, and did not end"
    ]


@POOLS
async def test_swapped_names_are_found(world: LogUnderTest) -> None:
    world.tamper(
        "update eventlog.streams as s set name = o.name from eventlog.streams as o"
        " where s.thread_id in ('kept', 'new') and o.thread_id in ('kept', 'new') and s.thread_id <> o.thread_id"
    )
    for threads in (["kept"], ["new"], []):
        assert await world.problems(*threads), threads
    assert {each.thread_id for each in await world.problems()} == {"new"}
    assert [each[3] for each in await world.problems("kept")] == ["it was sealed under another name"]


@POOLS
async def test_two_streams_with_one_name_are_found(world: LogUnderTest) -> None:
    world.tamper(
        "update eventlog.streams set name = (select name from eventlog.streams where thread_id = 'new')"
        " where thread_id = 'erased'"
    )
    for threads, expected in ((["erased"], {"erased"}), (["new"], {"new"}), ([], {"erased", "new"})):
        found = [each for each in await world.problems(*threads) if each.what == "another stream has the same name"]
        assert {each.thread_id for each in found} == expected


@POOLS
@pytest.mark.parametrize("name", [None, b"", bytes(15)])
async def test_a_name_that_is_none_is_found(world: LogUnderTest, name: bytes | None) -> None:
    world.tables.drop_checks()
    world.tables.run("alter table {schema}.streams alter column name drop not null")
    with psycopg.connect(world.uri) as conn:
        conn.execute("update eventlog.streams set name = %s where thread_id = 'new'", (name,))
    for threads in (["new"], []):
        assert [each[:4] for each in await world.problems(*threads)] == [
            ("new", "", 0, "its name in `streams` is not one of 16 bytes"),
            ("", "", 0, "the database's code: relation streams was altered: column name bytea"),
        ]
