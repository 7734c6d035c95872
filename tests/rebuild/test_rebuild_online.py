"""Rebuilding while others write and read: they are not disturbed, and nothing of the tables is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from projections.derive import Deriver
from projections.rebuild import Rebuilt
from tests.rebuild.workload import Load, append, at_the_lock
from tests.support.checkpoints import Tables, config_of
from tests.support.soundness import assert_keyframes, assert_sound, projected


@pytest.fixture
def tables(database_uri: str) -> Tables:
    return Tables(database_uri)


@pytest.fixture
def pool(database_uri: str) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(database_uri, min_size=1, max_size=20, kwargs={"autocommit": True}) as opened:
        yield opened


@pytest.fixture
def saver(pool: ConnectionPool[Any]) -> EventLogSaver:
    return EventLogSaver(pool, snapshot_floor_bytes=2000)


async def rebuild_async(uri: str, **options: Any) -> Rebuilt:
    async with AsyncEventLogSaver.from_conn_string(uri, snapshot_floor_bytes=2000) as saver:
        return await saver.log.rebuild(**options)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_rebuild_under_load_equals_the_live_projections(
    mode: str, saver: EventLogSaver, database_uri: str, tables: Tables
) -> None:
    """Others are not disturbed, nothing is lost, and what comes out is what is there."""

    def rebuild_log(**options: Any) -> Rebuilt:
        return saver.log.rebuild(**options) if mode == "sync" else asyncio.run(rebuild_async(database_uri, **options))

    with Load(saver) as load:
        while load.appended < 100:
            time.sleep(0.01)
        for _ in range(2):
            before = load.appended
            found = rebuild_log(workers=3)
            assert not any(found.differing.values()), found.differences
            found = rebuild_log(check=True, workers=2)
            assert not any(found.differing.values()), found.differences
            assert load.appended > before, "no writer could write meanwhile"
    assert_sound(tables)
    assert_keyframes(tables)
    rows = projected(tables, keyframes=False)
    assert not any(saver.log.rebuild(check=True).differing.values())
    saver.log.rebuild()
    assert projected(tables, keyframes=False) == rows


def test_damage_is_repaired_while_others_write(saver: EventLogSaver, tables: Tables) -> None:
    """Repaired while others write to the very same streams."""
    append(saver, "damaged", "0")
    with Load(saver) as load:
        while load.appended < 100:
            time.sleep(0.01)
        tables.run("update {schema}.checkpoints set state_bytes = 1 where thread_id = 'damaged'")
        found = saver.log.rebuild()
        assert [each[:5] for each in found.differences] == [("damaged", "", "checkpoints", "0", "different")]
    assert not any(saver.log.rebuild(check=True).differing.values())
    assert_sound(tables)


# --- the lock


def test_a_writer_that_waited_for_the_lock_appends_after_it(
    saver: EventLogSaver, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers go on, and what was put right stays right."""
    append(saver, "1", "1")
    append(saver, "2", "1")
    tables.run("update {schema}.checkpoints set state_bytes = 1 where thread_id = '1'")
    with ThreadPoolExecutor(1) as threads:
        waiting: list[Any] = []

        def under() -> None:
            append(saver, "2", "2", "1")  # another stream's writer does not wait
            waiting.append(threads.submit(append, saver, "1", "3", "2"))
            while not tables.waiting():
                time.sleep(0.01)

        at_the_lock(monkeypatch, lambda: append(saver, "1", "2", "1"), under)
        saver.log.rebuild()
        waiting[0].result()
    assert_sound(tables)
    assert tables.rows("select thread_id, seq from {schema}.streams order by 1") == [("1", 3), ("2", 2)]
    assert not any(saver.log.rebuild(check=True).differing.values())


def test_a_reader_does_not_wait_for_the_lock(
    saver: EventLogSaver, pool: ConnectionPool[Any], tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(saver, "1", "1")
    tables.run("update {schema}.checkpoints set state_bytes = 1")
    read: list[Any] = []

    def under() -> None:
        reader = EventLogSaver(pool, state_cache_bytes=0)
        read.append(reader.get_tuple(config_of("1")))
        read.extend(reader.list(config_of("1")))

    at_the_lock(monkeypatch, lambda: None, under)
    saver.log.rebuild()
    assert [found.checkpoint["id"] for found in read] == ["1", "1"]


def test_a_rebuild_does_not_wait_for_readers_and_other_writers(
    saver: EventLogSaver, database_uri: str, tables: Tables
) -> None:
    """A transaction that has read the tables, and one that appends to another thread, are not in its way."""
    append(saver, "1", "1")
    append(saver, "2", "1")
    tables.run("update {schema}.checkpoints set state_bytes = 1 where thread_id = '1'")
    with psycopg.connect(database_uri) as conn:
        for table in ("snapshots", "checkpoints", "streams"):
            conn.execute(sql.SQL("select * from eventlog.{}").format(sql.Identifier(table)))
        append(EventLogSaver(conn), "2", "2", "1")
        assert saver.log.rebuild().differing == {"streams": 0, "checkpoints": 1, "snapshots": 0}
    assert [found.checkpoint["id"] for found in saver.list(config_of("2"))] == ["2", "1"]
    assert not any(saver.log.rebuild(check=True).differing.values())


def test_catching_up_under_the_lock_is_bounded(
    saver: EventLogSaver, monkeypatch: pytest.MonkeyPatch, tables: Tables
) -> None:
    """Under the lock are only so many events derived; the rest before it is taken again."""
    ids = count(1)
    append(saver, "1", "000")
    tables.run("update {schema}.checkpoints set state_bytes = 1")
    monkeypatch.setattr("projections.repair.CATCH_UP_EVENTS", 3)
    derived: list[int | None] = []
    derive = Deriver.derive

    def noted(self: Deriver, derivation: Any, sink: Any, limit: int | None = None) -> Any:
        before = derivation.seq
        has_more = yield from derive(self, derivation, sink, limit)
        if limit == 3:
            derived.append(derivation.seq - before)
        return has_more

    monkeypatch.setattr(Deriver, "derive", noted)
    at_the_lock(
        monkeypatch,
        lambda: [append(saver, "1", f"{number:03}", f"{number - 1:03}") for number in islice(ids, 20)] and None,
        lambda: None,
    )
    saver.log.rebuild()
    assert derived == [3, 0]
    assert not any(saver.log.rebuild(check=True).differing.values())


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_rebuild_raises_the_epoch_of_the_streams_it_changes(
    mode: str, saver: EventLogSaver, database_uri: str, tables: Tables
) -> None:
    """What their writers know may be wrong: they look again. Others go on as before."""
    for thread_id in ("1", "2"):
        append(saver, thread_id, "1")
    tables.run("update {schema}.checkpoints set state_bytes = 1 where thread_id = '1'")
    epochs = "select epoch from {schema}.streams order by thread_id"
    assert tables.rows(epochs) == [(0,), (0,)]
    for _ in range(2):
        if mode == "sync":
            saver.log.rebuild()
        else:
            asyncio.run(rebuild_async(database_uri))
        assert tables.rows(epochs) == [(2,), (0,)]
    append(saver, "1", "1", None, other="content")
    assert tables.rows(epochs) == [(3,), (0,)]
    append(saver, "1", "2", "1")
    assert saver.log.verify().problems == []
    assert not any(saver.log.rebuild(check=True).differing.values())


@pytest.mark.parametrize(
    "statement",
    [
        "create view eventlog.mine as select thread_id from eventlog.streams",
        "create trigger mine after insert on eventlog.checkpoints"
        " for each row execute function suppress_redundant_updates_trigger()",
        "create publication mine for table eventlog.streams",
        "create policy mine on eventlog.streams",
        "create index mine on eventlog.checkpoints (state_bytes)",
    ],
)
def test_what_depends_on_the_tables_stays(saver: EventLogSaver, tables: Tables, statement: Any) -> None:
    """The tables are the same ones, with all that is theirs."""
    append(saver, "1", "1")
    tables.run(statement, "update {schema}.checkpoints set state_bytes = 1")
    dependents = """
        select d.refobjid, pg_describe_object(d.classid, d.objid, d.objsubid) from pg_depend as d
        where d.refobjid = any(array['eventlog.streams'::regclass, 'eventlog.checkpoints'::regclass]) order by 1, 2
    """
    before = tables.rows(dependents)
    assert saver.log.rebuild().differing["checkpoints"] == 1
    assert tables.rows(dependents) == before
