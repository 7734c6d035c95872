"""A rebuild that is killed, stopped and gone on with; and how it catches up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from eventlog.errors import InvalidInputError, LogCorruptedError
from langgraph.checkpoint.eventlog import EventLogSaver
from projections import rebuild
from projections.rebuild import RebuildProgress
from tests.rebuild.workload import TEXTS, append, at_the_lock, fill
from tests.support.adapters import POOLS, open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import Tables, config_of
from tests.support.soundness import assert_sound

__all__ = ["log"]  # a fixture


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


CHILD = """
import sys, time
from psycopg_pool import ConnectionPool
from langgraph.checkpoint.eventlog import EventLogSaver
from projections import rebuild
from projections.repair import Repairer

uri, where = sys.argv[1:]
rebuild.PAGE_STREAMS, rebuild.BATCH_STREAMS = 6, 2
done = 0

def stop():
    print(done, flush=True)
    time.sleep(600)

def tell(progress):
    global done
    done = progress.events
    if where == "between" and done >= 100:
        stop()

compare, put, finish = rebuild.Rebuilder._compare, Repairer._put_stream, rebuild.Rebuilder._finish

def in_a_batch(self, *args):
    result = yield from compare(self, *args)
    if where == "in a batch" and done >= 100:
        stop()
    return result

def under_the_lock(self, *args, **options):
    yield from put(self, *args, **options)
    if where == "under the lock" and done >= 100:
        stop()

def at_the_end(self, *args):
    if where == "at the end":
        stop()
    yield from finish(self, *args)

rebuild.Rebuilder._compare, Repairer._put_stream, rebuild.Rebuilder._finish = in_a_batch, under_the_lock, at_the_end
with ConnectionPool(uri, min_size=1, max_size=4, kwargs={"autocommit": True}) as pool:
    EventLogSaver(pool, snapshot_floor_bytes=2000).log.rebuild(workers=1, on_progress=tell)
"""


@pytest.mark.parametrize("where", ["between", "in a batch", "under the lock", "at the end"])
def test_a_killed_rebuild_is_resumed_by_the_same_call(
    where: str, saver: EventLogSaver, database_uri: str, tables: Tables
) -> None:
    """The same call goes on where the other was killed: what was done is not done again."""
    for number in range(20):
        for step in range(10):
            append(saver, f"{number:02}", f"{step}", f"{step - 1}" if step else None)
    tables.run("update {schema}.checkpoints set state_bytes = 1 where thread_id in ('00', '19')")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, database_uri, where],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert child.stdout is not None
        done = int(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert done == {"under the lock": 180, "at the end": 200}.get(where, 100)
    append(saver, "00", "last", "9")

    found = saver.log.rebuild()
    assert found.events == 200 - done
    assert found.differing == {"streams": 0, "checkpoints": 20, "snapshots": 0}
    assert_sound(tables)
    assert tables.rows("select thread_id, checkpoint_ns from {schema}.rebuilds where finished_at is not null") == [
        ("", "")
    ]
    assert not any(saver.log.rebuild(check=True).differing.values())


@POOLS
async def test_a_rebuild_stops_at_an_event_that_does_not_decode_and_resumes(
    kind: str, database_uri: str, tables: Tables
) -> None:
    """An event that does not decode stops it, with its place; when it is repaired, it goes on."""
    async with open_saver(kind, database_uri) as saver:
        for thread_id in ("1", "2", "3"):
            await fill(saver, thread_id)
        # Lost, so that it shows whether anything was rebuilt.
        tables.run("delete from {schema}.checkpoints where thread_id = '1'")
        before = tables.contents()
        body, position = tables.rows(
            "select body, position from {schema}.events where thread_id = '2' and checkpoint_ns = '' and seq = 5"
        )[0]
        with psycopg.connect(database_uri) as conn:
            conn.execute("set local session_replication_role = replica")
            conn.execute("update eventlog.events set body = %s where position = %s", (body[:-1], position))
        says = rf"event 5 of thread '2', namespace '', does not decode.*position in the log is {position}"
        for check in (True, False, False):
            with pytest.raises(LogCorruptedError, match=says):
                await saver.log.rebuild(check=check)
        contents = tables.contents()
        assert [contents[name] for name in rebuild.TABLES] == [before[name] for name in rebuild.TABLES]
        with psycopg.connect(database_uri) as conn:
            conn.execute("set local session_replication_role = replica")
            conn.execute("update eventlog.events set body = %s where position = %s", (body, position))
        found = await saver.log.rebuild()
        assert found.differing == {"streams": 0, "checkpoints": 12, "snapshots": 0}
        assert not any((await saver.log.rebuild(check=True)).differing.values())


@pytest.mark.portable
def test_two_rebuilds_at_a_time_both_complete(
    saver: EventLogSaver, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch, tables: Tables
) -> None:
    """Neither disturbs the other."""
    monkeypatch.setattr(rebuild, "BATCH_STREAMS", 1)
    for number in range(6):
        append(saver, f"{number}", "1")
    tables.run("update {schema}.checkpoints set state_bytes = 1")
    other = EventLogSaver(pool, snapshot_floor_bytes=2000)
    others: list[Any] = []

    def tell(_: RebuildProgress) -> None:
        if not others:
            others.append(other.log.rebuild(restart=True))

    found = saver.log.rebuild(workers=1, on_progress=tell)
    assert others[0].streams == found.streams == 6
    assert tables.rows("select 1 from {schema}.rebuilds where finished_at is null") == []
    assert not any(saver.log.rebuild(check=True).differing.values())


class _Stop(Exception):
    """Ends a rebuild."""


def stop_early(saver: EventLogSaver, monkeypatch: pytest.MonkeyPatch, after: int = 1) -> None:
    """Rebuild one stream after the other, and stop."""

    def stop(at: RebuildProgress) -> None:
        if at.events >= after:
            raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr(rebuild, "BATCH_STREAMS", 1)
        patch.setattr(rebuild, "PAGE_STREAMS", 1)
        with pytest.raises(_Stop):
            saver.log.rebuild(workers=1, on_progress=stop)


def test_restart_begins_an_interrupted_rebuild_at_its_first_stream(
    saver: EventLogSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, what was done is not done again."""
    append(saver, "1", "1")
    append(saver, "2", "1")
    stop_early(saver, monkeypatch)
    assert saver.log.rebuild().events == 1
    stop_early(saver, monkeypatch)
    assert saver.log.rebuild(restart=True).events == 2
    for options in ({"restart": True}, {"accept_loss": True}):
        with pytest.raises(InvalidInputError, match="leave out restart"):
            saver.log.rebuild(check=True, **options)
    with pytest.raises(InvalidInputError, match="workers"):
        saver.log.rebuild(workers=0)


def test_a_rebuild_is_not_resumed_in_a_restored_cluster(
    saver: EventLogSaver, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch, tables: Tables
) -> None:
    """What was put right in another cluster may not have been restored."""
    append(saver, "1", "1")
    append(saver, "2", "1")
    stop_early(saver, monkeypatch)
    # As after a dump: rows have other transactions than they say.
    tables.run("update {schema}.generations set xid = xid where generation > 0")
    append(saver, "1", "2", "1")
    assert saver.log.rebuild().events == 3
    assert_sound(tables)
    assert saver.log.verify().problems == []
    found = EventLogSaver(pool).get_tuple(config_of("1"))
    assert found is not None
    assert found.checkpoint["id"] == "2"
    assert tables.rows("select generation, finished_at is null from {schema}.rebuilds") == [(2, False)]


@pytest.mark.portable
@POOLS
async def test_a_thread_closed_meanwhile_is_not_brought_back(log: Log) -> None:
    """A thread that was erased since, and went with its partition, is not brought back."""
    await log.grow("1", "1", "2")
    await log.grow("2", "1")
    log.tables.run("update {schema}.checkpoints set state_bytes = 1")

    def stop(_: RebuildProgress) -> None:
        raise _Stop

    with pytest.raises(_Stop):
        await log.saver.log.rebuild(on_progress=stop)
    await log.saver.adelete_thread("1")
    log.clock.advance(10 * DAY)
    await log.grow("2", "2")
    await log.saver.log.retain(2 * DAY)
    assert log.tables.rows("select 1 from {schema}.events where thread_id = '1'") == []
    found = await log.saver.log.rebuild()
    for table in rebuild.TABLES:
        assert log.tables.rows(f"select 1 from {{schema}}.{table} where thread_id = '1'") == []  # type: ignore[arg-type]
    assert {each.thread_id for each in found.differences} <= {"2"}
    assert (await log.saver.log.verify()).problems == []


def test_a_rebuild_in_a_transaction_is_refused(database_uri: str) -> None:
    """It needs transactions of its own, and says so."""
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        append(saver, "1", "1")
        with conn.transaction():
            conn.execute("select 1")
            for check in (True, False):
                with pytest.raises(InvalidInputError, match="transactions of its own"):
                    saver.log.rebuild(check=check)
        assert saver.log.rebuild().events == 1


# --- catching up


@pytest.mark.portable
@pytest.mark.parametrize("page", [7, 100])
def test_events_appended_meanwhile_are_caught_up(
    saver: EventLogSaver, monkeypatch: pytest.MonkeyPatch, tables: Tables, page: int
) -> None:
    """Page by page, and the last ones under the lock; also where a checkpoint was replaced, or much was erased."""
    monkeypatch.setattr("projections.derive.PAGE_EVENTS", page)
    monkeypatch.setattr("projections.repair.PAGE_EVENTS", page)
    monkeypatch.setattr("projections.derive.BASES_BYTES", 0)
    for step in range(60):
        append(saver, "long", f"{step:02}", f"{step - 1:02}" if step else None, n=step)
    forks = iter(["00", "30", "59"])

    def more() -> None:
        for parent in forks:
            append(saver, "long", f"fork of {parent}", parent, n=-1)
        saver.put_writes(config_of("long", "30"), [("x", TEXTS)], "task")

    changes: list[Callable[[], Any]] = [
        more,
        lambda: append(saver, "long", "30", "29", n="again"),
        lambda: saver.log.prune(["long"], keep_last=5),
        lambda: saver.delete_thread("long"),
    ]
    for change in changes:
        tables.run("update {schema}.checkpoints set state_bytes = 1")
        with monkeypatch.context() as patch:
            at_the_lock(patch, change, lambda: None)
            saver.log.rebuild()
        found = saver.log.rebuild(check=True)
        assert not any(found.differing.values()), found.differences
        assert_sound(tables)


def test_progress_reports_events_rate_and_remaining_time(
    saver: EventLogSaver, database_uri: str, tables: Tables
) -> None:
    """How many events of how many, how fast, and how long it will take."""
    for number in range(45):
        append(saver, f"{number}", "1")
    tables.run("analyze {schema}.events")
    told: list[RebuildProgress] = []
    saver.log.rebuild(on_progress=told.append)
    assert [each.events for each in told] == sorted(each.events for each in told)
    assert told[-1].events == told[-1].total == 45
    assert told[-1].seconds_left == 0
    assert all(each.rate > 0 for each in told)
