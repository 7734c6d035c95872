"""The feed of a log that was dumped and restored into another cluster, where transaction ids start over.

The other cluster's counter may be behind the ids in the log, or ahead of them. Applications do not wait for anybody to
notice: they append as soon as the data is there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog.errors import CursorError, NotSetUpError
from eventlog.events import Cursor, StoredEvent
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.database.test_rights import as_role, role
from tests.feed.test_feed import append, places, tail
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, converse, put
from tests.support.pooler import direct
from tests.support.server import Server
from tests.support.soundness import assert_sound, projected

__all__ = ["role"]  # a fixture

#: How a dump is taken, and how it is restored.
WAYS = {
    "script": ([], ["psql", "--quiet", "--set=ON_ERROR_STOP=1"]),
    "one transaction": ([], ["psql", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]),
    "inserts": (["--inserts"], ["psql", "--quiet", "--set=ON_ERROR_STOP=1"]),
    "side by side": (["--format=custom"], ["pg_restore", "--jobs=3", "--exit-on-error"]),
}


Move = Callable[..., str]


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    """Dumps a database and restores it as a new one; returns the connection string of that."""
    made: list[tuple[Server, str]] = []

    def dump_and_restore(source: Server, uri: str, target: Server, way: str = "script") -> str:
        dump, restore = WAYS[way]
        name = target.create_database(prefix="restored")
        made.append((target, name))
        file = tmp_path / f"dump {len(made)}"
        run([source.programs / "pg_dump", "--no-owner", f"--file={file}", *dump, uri])
        program, *options = restore
        run([target.programs / program, *options, *(["-f"] if program == "psql" else []), file, "-d", target.uri(name)])
        return target.uri(name)

    yield dump_and_restore
    for server, name in made:
        server.drop_database(name)


def run(command: list[Any]) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def next_xid(server: Server) -> int:
    return int(Tables(server.uri("postgres")).one("select pg_snapshot_xmax(pg_current_snapshot())::text::int8"))


def burn(server: Server, until: int) -> None:
    """Use up transaction ids."""
    with psycopg.connect(server.uri("postgres"), autocommit=True) as conn:
        conn.execute(
            f"do $$ begin loop exit when pg_current_xact_id() >= '{until}'; commit; end loop; end $$"  # type: ignore[arg-type]
        )


def order_counters(counter: str, source: Server, target: Server) -> None:
    """Make the target's counter smaller or bigger than the source's, so that the ids of 10,000 transactions differ."""
    if counter == "smaller":
        burn(source, next_xid(target) + 10_000)
    else:
        burn(target, next_xid(source) + 10_000)


COUNTERS = pytest.mark.parametrize("counter", ["smaller", "bigger"])


def assert_whole(found: list[StoredEvent], uri: str) -> None:
    """Everything is there once, in order, and each stream in the order of its numbers."""
    cursors = [event.cursor for event in found]
    assert cursors == sorted(set(cursors))
    assert len(found) == Tables(uri).events()
    for thread_id in {event.thread_id for event in found}:
        seqs = [event.seq for event in found if event.thread_id == thread_id]
        assert seqs == list(range(1, len(seqs) + 1)), thread_id


@COUNTERS
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["setup", "tail"])
async def test_a_reader_resumes_in_the_restored_cluster(
    server: Server, other_server: Server, move: Move, database_uri: str, counter: str, way: str, first: str
) -> None:
    """It stopped in the middle. It gets exactly the rest, and then what was appended in the new cluster."""
    order_counters(counter, server, other_server)
    async with open_saver("async-pool", database_uri) as saver:
        await converse(saver)
        await converse(saver, "2", ids="abcd")
        with psycopg.connect(database_uri) as undone:
            append(undone, "never committed")
            append(undone, "never committed")
            await converse(saver, "3", ids="ab")
            uri = move(server, database_uri, other_server, way)
            undone.rollback()
        before = await tail(saver)
    order_counters(counter, server, other_server)
    assert before[-1].cursor.generation == 1

    async with open_saver("async-pool", uri) as saver:
        # The restore was not noticed yet.
        await converse(saver, "4", ids="ab")
        await put(saver, config_of("1", "h"), "i", {"x": "i"}, metadata={})
        with psycopg.connect(uri) as late, psycopg.connect(uri, autocommit=True) as conn:
            append(late, "late")
            append(conn, "1")
            if first == "setup":
                await saver.setup()
            for cursor in (None, before[7].cursor):
                read = await tail(saver, cursor)
                rest = [event for event in before if cursor is None or event.cursor > cursor]
                assert read[: len(rest)] == rest
                assert len(read) > len(rest)
                assert "late" not in {event.thread_id for event in read}
            append(late, "1")
        after = await tail(saver, before[7].cursor)
        assert after[: len(before) - 8] == before[8:]
        new = after[len(before) - 8 :]
        assert {event.cursor.generation for event in new} == {2}
        assert places(new)[-2:] in ([("late", 1), ("1", 27)], [("1", 26), ("1", 27)], [("1", 27), ("late", 1)])
        assert before[:8] + after == await tail(saver)
        assert_whole(before[:8] + after, uri)
        for event in after:
            rest = [each for each in after if each.cursor > event.cursor]
            assert await tail(saver, event.cursor) == rest
        assert await tail(saver, await saver.log.tail_position()) == []
        assert (await saver.log.lag(before[7].cursor)).waiting == len(after)

    tables = Tables(uri)
    limit = next_xid(other_server)
    xids = tables.rows("select xid::text::int8 from {schema}.events where position > %s", new[0].cursor.position - 1)
    assert all(xid < limit for (xid,) in xids)
    assert tables.rows("select generation from {schema}.generations order by 1") == [(0,), (1,), (2,)]


@COUNTERS
async def test_erasing_and_copying_work_after_a_restore(
    server: Server, other_server: Server, move: Move, database_uri: str, counter: str
) -> None:
    """Whatever appends first to a stream leaves the other cluster's ids behind, and rebuilding finds the same."""
    order_counters(counter, server, other_server)
    async with open_saver("sync-pool", database_uri) as saver:
        for thread_id in "12345":
            await converse(saver, thread_id)
        cursor = await saver.log.tail_position()
        uri = move(server, database_uri, other_server)
    async with open_saver("sync-pool", uri) as saver:
        await saver.log.prune(["1"], keep_last=2)
        await saver.adelete_thread("2")
        await saver.acopy_thread("3", "6")
        await saver.acopy_thread("4", "2")
        await saver.log.rebuild()
        await saver.aput_writes(config_of("5", "h"), [("z", 1)], "a task")
        found = await tail(saver, cursor)
        assert {event.thread_id for event in found} == set("12456") - {"4"}
        assert {event.cursor.generation for event in found} == {2}
        assert any(event.is_replay for event in found)
        tables = Tables(uri)
        assert_sound(tables)
        rows = projected(tables)
        await saver.log.rebuild()
        assert projected(tables) == rows
        assert len(await tail(saver)) == tables.events()


async def test_each_restore_begins_a_generation(
    server: Server, other_server: Server, move: Move, database_uri: str
) -> None:
    """Every restore begins a generation, also one into the cluster that it came from."""
    uri, found = database_uri, []
    for number, (source, target) in enumerate([(server, other_server), (other_server, server), (server, server)], 1):
        async with open_saver("async-pool", uri) as saver:
            await saver.aput_writes(config_of(f"{number}", "1"), [("x", 1)], "task")
            read = await tail(saver, found[-1].cursor if found else None)
            assert [event.cursor.generation for event in read] == [number]
            found += read
        uri = move(source, uri, target)
    async with open_saver("async-pool", uri) as saver:
        assert await tail(saver) == found
        assert await saver.log.tail_position() == Cursor(4, 0, 0)
        await saver.aput_writes(config_of("4", "1"), [("x", 1)], "task")
        assert [event.cursor.generation for event in await tail(saver, found[0].cursor)] == [2, 3, 4]
        assert (await saver.log.lag()).waiting == 4


@COUNTERS
@POOLS
async def test_a_cursor_from_after_the_dump_is_refused(
    server: Server, other_server: Server, move: Move, database_uri: str, kind: str, counter: str
) -> None:
    """A cursor from then is refused, whichever counter is ahead."""
    order_counters(counter, server, other_server)
    async with open_saver(kind, database_uri) as saver:
        await converse(saver, ids="ab")
        kept = (await tail(saver))[-1].cursor
        uri = move(server, database_uri, other_server)
        await saver.aput_writes(config_of("2", "1"), [("x", 1)], "task")
        lost = (await tail(saver))[-1].cursor
    async with open_saver(kind, uri) as saver:
        for _ in range(2):
            with pytest.raises(CursorError, match="a time that a restore undid"):
                await tail(saver, lost)
            assert {event.cursor.generation for event in await tail(saver, kept)} <= {2}
            await converse(saver, "3")


@POOLS
async def test_a_reader_without_the_right_to_register_a_generation_is_told_what_to_do(
    server: Server, other_server: Server, move: Move, database_uri: str, kind: str, role: str
) -> None:
    """A reader without the right gets no events and is told what to do; when that was done, it goes on."""
    async with open_saver(kind, database_uri) as saver:
        await converse(saver, ids="ab")
    uri = move(other_server, move(server, database_uri, other_server), server)
    Tables(uri).run(
        f"select {{schema}}.grant_rights_v1('auditor', '{role}', 'eventlog_views')",  # type: ignore[arg-type]
    )
    async with open_saver(kind, as_role(uri, role)) as reader, open_saver(kind, uri) as owner:
        with pytest.raises(NotSetUpError, match=r"run setup\(\) once"):
            await tail(reader)
        with pytest.raises(NotSetUpError, match=r"run setup\(\) once"):
            await reader.log.tail_position()
        with pytest.raises(NotSetUpError, match=r"run setup\(\) once"):
            await reader.log.lag()
        await owner.setup()
        assert len(await tail(reader)) == 6


@COUNTERS
def test_events_of_the_transaction_that_notices_a_restore_are_delivered(
    server: Server, other_server: Server, move: Move, database_uri: str, counter: str
) -> None:
    """In one transaction, of which nothing is settled: what it appended is not taken for restored."""
    order_counters(counter, server, other_server)
    with EventLogSaver.from_conn_string(database_uri) as saver:
        saver.put_writes(config_of("1", "1"), [("x", 1)], "task")
        cursor = saver.log.tail_position()
    uri = move(server, database_uri, other_server)
    with psycopg.connect(uri) as conn:
        append(conn, "1")
        with conn.transaction():
            append(conn, "2")
        EventLogSaver(conn).setup()
        append(conn, "1")
    with EventLogSaver.from_conn_string(uri) as saver:
        found = list(saver.log.tail(cursor))
    assert places(found) == [("1", 2), ("2", 1), ("1", 3)]
    assert {event.cursor.generation for event in found} == {2}


def test_a_restore_under_the_same_transaction_id_is_detected(
    server: Server, other_server: Server, move: Move, database_uri: str
) -> None:
    """Restored by a transaction with the id of the one that inserted it there; so was the row beside it."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        saver.put_writes(config_of("1", "1"), [("x", 1)], "task")
    tables = Tables(move(server, database_uri, other_server))
    tables.run("update {schema}.generations set xid = pg_current_xact_id()::text::int8")
    ((stored, xmin),) = tables.rows(
        "select xid, xmin::text::int8 from {schema}.generations order by generation desc limit 1"
    )
    assert stored == xmin
    assert tables.one("select o_is_restored from {schema}.newest_generation_v1()")
    tables.rows("select {schema}.start_generation_v1()")
    assert not tables.one("select o_is_restored from {schema}.newest_generation_v1()")


def test_a_database_copied_within_the_cluster_keeps_its_cursors(server: Server, database_uri: str) -> None:
    """Its files were copied as they are, and the counter is the same: all cursors stay what they are."""
    # Directly: a pooler stays connected, and then PostgreSQL makes no copy.
    with EventLogSaver.from_conn_string(direct(database_uri)) as saver:
        saver.put_writes(config_of("1", "1"), [("x", 1)], "task")
        (event,) = saver.log.tail()
    name = server.create_database(psycopg.conninfo.conninfo_to_dict(database_uri)["dbname"])
    try:
        with EventLogSaver.from_conn_string(server.uri(name)) as saver:
            saver.setup()
            saver.put_writes(config_of("1", "1"), [("x", 2)], "task 2")
            assert [each.cursor.generation for each in saver.log.tail(event.cursor)] == [1]
    finally:
        server.drop_database(name)


async def test_freezing_rows_begins_no_generation(database_uri: str) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await converse(saver, ids="ab")
        Tables(database_uri).run("vacuum (freeze, full) {schema}.generations", "vacuum freeze {schema}.events")
        assert {event.cursor.generation for event in await tail(saver)} == {1}


@pytest.mark.parametrize("kind", ["sync-connection", "async-connection", "sync-pipeline", "async-pipeline"])
async def test_setup_within_a_transaction_begins_no_generation(kind: str, empty_database_uri: str) -> None:
    """Each script is a savepoint then, with a transaction id of its own; that is no sign of a restore."""
    async with open_saver(kind, empty_database_uri) as saver:
        await saver.setup()
        await saver.setup()
        await converse(saver, ids="a")
        assert {event.cursor.generation for event in await tail(saver)} == {1}


async def test_prepared_transactions_hold_the_feed_back(database_uri: str) -> None:
    async with open_saver("async-pool", database_uri) as saver:
        with psycopg.connect(database_uri) as conn:
            conn.tpc_begin(conn.xid(1, "gtrid", "bqual"))
            append(conn, "1")
            conn.tpc_prepare()
            assert await tail(saver) == []
            held_by = (await saver.log.lag()).held_by
            assert (held_by.state, held_by.pid) == ("prepared", None)
            assert held_by.prepared_as == "1_Z3RyaWQ=_YnF1YWw="
            conn.tpc_commit()
        assert places(await tail(saver)) == [("1", 1)]
