"""A rebuild that is killed, stopped, taken over, gone on with; and how it catches up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from eventlog.errors import InvalidInputError, LogBusyError, LogCorruptedError
from langgraph.checkpoint.eventlog import EventLogSaver
from projections import rebuild
from projections.rebuild import RebuildProgress
from tests.rebuild.workload import TEXTS, append, at_the_swap, fill, nothing_left
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
from projections.side_tables import Side
from projections.swap import Swapper

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

bring, obstacles, analyze = Side.bring_up_to_date, Swapper._check_obstacles, rebuild.Rebuilder._analyze

def in_a_batch(self, *args):
    result = yield from bring(self, *args)
    if where == "in a batch" and done >= 100:
        stop()
    return result

looks = 0

def under_the_lock(self):
    global looks
    looks += 1
    yield from obstacles(self)
    if where == "under the lock" and looks == 2:
        stop()

def before_the_lock(self):
    if where == "before the lock":
        stop()
    yield from analyze(self)

Side.bring_up_to_date, Swapper._check_obstacles = in_a_batch, under_the_lock
rebuild.Rebuilder._analyze = before_the_lock
with ConnectionPool(uri, min_size=1, max_size=4, kwargs={"autocommit": True}) as pool:
    EventLogSaver(pool, snapshot_floor_bytes=2000).log.rebuild(workers=1, on_progress=tell)
"""


@pytest.mark.parametrize("where", ["between", "in a batch", "before the lock", "under the lock"])
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
    assert done == (200 if "lock" in where else 100)
    append(saver, "00", "last", "9")

    found = saver.log.rebuild()
    assert found.events == 200 - done + 1
    assert found.differing == {"streams": 0, "checkpoints": 20, "snapshots": 0}
    assert_sound(tables)
    assert nothing_left(tables)
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


def test_a_second_rebuild_is_refused(saver: EventLogSaver, pool: ConnectionPool[Any], tables: Tables) -> None:
    """The second is told; the first is not disturbed."""
    for number in range(30):
        append(saver, f"{number}", "1")
    other = EventLogSaver(pool)
    refused = []

    def tell(_: RebuildProgress) -> None:
        if refused:
            return
        with pool.connection() as conn, conn.transaction():
            # As a batch does: who looks between two batches would have to watch for a while.
            conn.execute("select from eventlog.rebuilds for share")
            with pytest.raises(LogBusyError, match="another rebuild is running") as caught:
                other.log.rebuild()
        refused.append(caught.value)

    found = saver.log.rebuild(workers=2, on_progress=tell)
    assert found.events == 30
    assert len(refused) == 1
    assert not any(saver.log.rebuild(check=True).differing.values())


def test_a_stalled_rebuild_is_taken_over_and_gives_up(
    saver: EventLogSaver, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that sleeps for long is taken for dead, and gives up when it wakes up."""
    monkeypatch.setattr(rebuild, "BATCH_STREAMS", 1)
    for number in range(3):
        append(saver, f"{number}", "1")
    other = EventLogSaver(pool, snapshot_floor_bytes=2000)
    taken: list[Any] = []

    def tell(_: RebuildProgress) -> None:
        while not taken:
            with suppress(LogBusyError):  # the first one's last batches may be under way
                taken.append(other.log.rebuild())

    with pytest.raises(LogBusyError, match="another call has taken over"):
        saver.log.rebuild(workers=1, on_progress=tell)
    assert taken[0].streams == 3
    assert not any(saver.log.rebuild(check=True).differing.values())


def test_a_rebuild_with_other_settings_needs_a_restart(
    saver: EventLogSaver, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun with other settings is not gone on with, and what was done is thrown away when that is said."""
    append(saver, "1", "1")
    append(saver, "2", "1")
    monkeypatch.setattr(rebuild, "SWAP_ATTEMPTS", 0)
    with pytest.raises(LogBusyError):
        saver.log.rebuild()
    monkeypatch.undo()

    other = EventLogSaver(pool, snapshot_floor_bytes=1)
    with pytest.raises(InvalidInputError, match="started with snapshot_floor_bytes=2000"):
        other.log.rebuild()
    with pytest.raises(InvalidInputError, match="nothing to restart"):
        other.log.rebuild(check=True, restart=True)
    with pytest.raises(InvalidInputError, match="workers"):
        other.log.rebuild(workers=0)
    assert other.log.rebuild(restart=True).events == 2
    assert saver.log.rebuild().events == 2


def test_a_rebuild_is_not_resumed_in_a_restored_cluster(
    saver: EventLogSaver, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch, tables: Tables
) -> None:
    """In another cluster, transactions are counted from elsewhere: what was begun is not gone on with."""
    append(saver, "1", "1")
    monkeypatch.setattr(rebuild, "SWAP_ATTEMPTS", 0)
    with pytest.raises(LogBusyError):
        saver.log.rebuild()
    # As after a dump of a cluster that is far ahead: rows have other transactions than they say.
    tables.run("update {schema}.rebuilds set since = '900000000'")
    tables.run("update {schema}.generations set xid = xid where generation > 0")
    append(saver, "1", "2", "1")
    with pytest.raises(LogBusyError):
        saver.log.rebuild()
    append(saver, "1", "3", "2")
    monkeypatch.undo()
    assert saver.log.rebuild().events == 1
    assert_sound(tables)
    assert saver.log.verify().problems == []
    found = EventLogSaver(pool).get_tuple(config_of("1"))
    assert found is not None
    assert found.checkpoint["id"] == "3"
    begun = tables.rows("select settings ->> 'generation', finished_at is not null from {schema}.rebuilds order by id")
    assert begun == [("1", True), ("2", True)]


@pytest.mark.portable
@POOLS
async def test_a_thread_closed_meanwhile_is_not_brought_back(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that was erased since, and went with its partition, is not brought back."""
    await log.grow("1", "1", "2")
    await log.grow("2", "1")
    log.tables.run("update {schema}.checkpoints set state_bytes = 1")
    monkeypatch.setattr(rebuild, "SWAP_ATTEMPTS", 0)
    with pytest.raises(LogBusyError):
        await log.saver.log.rebuild()
    monkeypatch.undo()
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
def test_appended_events_are_derived_without_reading_the_stream_again(
    saver: EventLogSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long stream is not read from its first event again, unless something was erased from it."""
    for step in range(60):
        append(saver, "long", f"{step:02}", f"{step - 1:02}" if step else None, n=step)
    forks = iter(["00", "30", "59"])

    def more() -> None:
        for parent in forks:
            append(saver, "long", f"fork of {parent}", parent, n=-1)
        append(saver, "long", "30", "29", n="again")
        saver.put_writes(config_of("long", "30"), [("x", TEXTS)], "task")

    at_the_swap(monkeypatch, more, lambda: None)
    assert saver.log.rebuild().events == 60 + 5
    found = saver.log.rebuild(check=True)
    assert not any(found.differing.values()), found.differences

    append(saver, "short", "1")
    monkeypatch.undo()
    at_the_swap(monkeypatch, lambda: saver.log.prune(["long"], keep_last=5), lambda: None)
    saver.log.rebuild()
    found = saver.log.rebuild(check=True)
    assert not any(found.differing.values()), found.differences


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
