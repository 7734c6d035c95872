"""Retention: the oldest partitions go, and what threads still need is relocated before."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet
import pytest

from eventlog.errors import (
    EventLogError,
    LogBusyError,
    LogCorruptedError,
    MissingGrantError,
    StorageError,
    ThreadDeletedError,
)
from eventlog.records import Erased
from langgraph.checkpoint.eventlog.lifecycle import retain
from tests.database.test_rights import as_role
from tests.support.adapters import open_saver
from tests.support.aging import DAY, TEXTS, Log, log
from tests.support.checkpoints import config_of, listed_ids, put, values_of
from tests.support.clock import Clock
from tests.support.soundness import assert_sound

pytestmark = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])

__all__ = ["log"]  # a fixture


async def test_history_ends_at_the_cut(log: Log) -> None:
    """What is younger stays as it is, what is older goes, and listing and going back begin there."""
    await log.grow("1", *(f"c{number:02}" for number in range(20)), days=1)
    await log.grow("1", "s1", "s2", ns="kept")
    before = await log.everything()
    partitions = log.partitions()

    retained = await log.saver.log.retain(10 * DAY, actor="night job")

    survivors = {key for key in before if key[1] == "kept" or key[2] > "c09"}
    assert {key[2] for key in before.keys() - survivors} == {f"c{number:02}" for number in range(10)}
    await log.check(before, survivors)
    assert [f"eventlog.{each.name}" for each in retained.partitions] == partitions[:10]
    assert log.partitions() == partitions[10:] + [name for name in log.partitions() if name not in partitions]
    assert retained.before == retained.partitions[-1].ends_at
    assert (retained.relocated_threads, retained.dropped_threads) == (1, 0)
    first = await log.reader.aget_tuple(config_of("1", "c10"))
    assert first.parent_config is None
    # All that is recorded is young, and says what was done.
    assert log.tables.one("select min(recorded_at) from {schema}.events") >= retained.before
    ((record,),) = log.tables.rows("select {schema}.record_details_v1(body) from {schema}.events where kind = 4")
    assert (record["operation"], record["by"], record["actor"]) == ("retain", "postgres", "night job")
    assert (record["checkpoints"], record["events"]) == (10, 20)
    dropped = log.tables.rows(
        "select dropped_by, actor, dropped_rows from {schema}.partitions where dropped_at is not null order by name"
    )
    assert dropped == [("postgres", "night job", 2)] * 10

    # Going on, back and again.
    await log.grow("1", "c20", "c21", days=1)
    await put(log.reader, config_of("1", "c10"), "fork", {"x": [*TEXTS, "fork"]})
    assert await values_of(log.saver, config_of("1", "fork")) == {"x": [*TEXTS, "fork"]}
    with pytest.raises(ThreadDeletedError):
        await put(log.saver, config_of("1", "c09"), "late", {"x": TEXTS})
    with pytest.raises(ThreadDeletedError):
        await log.saver.aput_writes(config_of("1", "c09"), [("x", 1)], "task")
    again = await log.saver.log.retain(10 * DAY)
    assert len(again.partitions) == 2
    assert await listed_ids(log.reader, config_of("1")) == ["fork", *(f"c{number:02}" for number in range(21, 11, -1))]


async def test_idle_threads_keep_their_latest_state(log: Log) -> None:
    """However old it is, again and again; with its writes, in each namespace."""
    await log.grow("idle", "a1", "a2", "a3", days=1)
    await log.grow("idle", "b1", "b2", ns="kept")
    await log.grow("active", "c1", days=30)
    await log.grow("active", "c2")
    before = await log.everything()

    await log.saver.log.retain(10 * DAY)

    survivors = {("idle", "", "a3"), ("idle", "kept", "b2"), ("active", "", "c2")}
    await log.check(before, survivors)
    assert log.tables.events("idle") == 2 * 3  # checkpoint, writes, record

    before = await log.everything()
    log.clock.advance(30 * DAY)
    await log.saver.log.retain(10 * DAY)
    await log.check(before, survivors)
    # Being relocated is no activity.
    idle = await log.saver.log.expire(55 * DAY, dry_run=True)
    assert [thread.thread_id for thread in idle] == ["idle"]


async def test_idle_threads_are_deleted_when_asked_for(log: Log) -> None:
    """With their partitions, when that is asked for; a run that wakes up late cannot bring them back."""
    await log.grow("idle", "a1", "a2", "a3", days=1)
    await log.grow("idle", "b1", ns="kept")
    await log.grow("active", "c1", days=30)
    await log.grow("active", "c2")
    before = await log.everything()

    retained = await log.saver.log.retain(10 * DAY, drop_idle=True, actor="night job")

    assert (retained.relocated_threads, retained.dropped_threads) == (1, 1)
    await log.check(before, {("active", "", "c2")})
    kinds = log.tables.rows("select kind, count(*) from {schema}.events where thread_id = 'idle' group by 1")
    assert kinds == [(3, 2)]
    with pytest.raises(ThreadDeletedError):
        await put(log.saver, config_of("idle", "a3"), "a4", {"x": TEXTS})
    await put(log.saver, config_of("idle"), "d1", {"x": 1})
    assert await listed_ids(log.reader, config_of("idle")) == ["d1"]

    # In time, what is left of a thread that is gone goes too.
    await log.saver.adelete_thread("idle")
    log.clock.advance(60 * DAY)
    await log.saver.log.retain(10 * DAY)
    assert log.tables.events("idle") == 0
    assert log.tables.rows("select 1 from {schema}.streams where thread_id = 'idle'") == []
    await log.check(before, {("active", "", "c2")})


async def test_savers_with_a_stale_cache_continue_after_retention(log: Log) -> None:
    """Savers with caches from before continue where they were, on what was relocated and on what was not."""
    async with open_saver(log.kind, log.uri) as other:
        await log.grow("1", "c01", "c02", days=20)
        await log.grow("2", *(f"c{number:02}" for number in range(1, 8)), days=5)
        for saver in (log.saver, other):
            for thread_id in ("1", "2"):
                await saver.aget_tuple(config_of(thread_id))
                await saver.aget_tuple(config_of(thread_id, "c02"))

        await log.saver.log.retain(12 * DAY)

        for saver, id_ in ((other, "d1"), (log.saver, "d2")):
            await saver.aput_writes(config_of("1", "c02"), [("x", [*TEXTS, 2, 2])], f"late {id_}")
            await put(
                saver,
                config_of("1", "c02"),
                id_,
                {"n": 3},
                versions={"x": "c02", "n": id_},
                new={"n": id_},
            )
            assert await values_of(log.reader, config_of("1", id_)) == {"x": [*TEXTS, 2], "n": 3}
        assert len((await log.reader.aget_tuple(config_of("1", "c02"))).pending_writes) == 4
        await put(other, config_of("2", "c07"), "c08", {"x": [*TEXTS, 7, 8]})
        assert await values_of(log.reader, config_of("2")) == {"x": [*TEXTS, 7, 8]}
    assert_sound(log.tables)


async def test_a_checkpoint_replaced_across_the_cut_keeps_its_current_state(log: Log) -> None:
    """Across the cut: what it was is gone, what was written against that is not."""
    await log.grow("1", "c1", "c2")
    config = config_of("1", "c2")
    log.clock.advance(5 * DAY)
    await put(log.saver, config_of("1", "c1"), "c2", {"x": [*TEXTS, "again"]}, versions={"x": "3"})
    await log.saver.aput_writes(config, [("x", [*TEXTS, "again"])], "second task")
    log.clock.advance(5 * DAY)
    before = await log.everything()

    for history in (7, 2):
        await log.saver.log.retain(history * DAY)
        await log.check(before, {("1", "", "c2")})

    await log.grow("1", "c3")
    before = await log.everything()
    # Relocated, it is as old as it was.
    await log.saver.log.retain(2 * DAY)
    await log.check(before, {("1", "", "c2"), ("1", "", "c3")})
    log.clock.advance(3 * DAY)
    await log.saver.log.retain(2 * DAY)
    await log.check(before, {("1", "", "c3")})


async def test_an_interrupted_retention_is_finished_by_the_next(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each thread and before each drop the log is whole, and running it again finishes the work."""
    for thread_id in "123":
        await log.grow(thread_id, "c1", "c2", "c3", days=1)
    await log.grow("4", "c1")
    await log.saver.adelete_thread("4")
    log.clock.advance(20 * DAY)
    before = await log.everything()
    survivors = {(thread_id, "", "c3") for thread_id in "123"}

    class PowerCutError(Exception):
        pass

    for cut in range(1, 4):
        seen: list[Erased] = []

        def on_thread(erased: Erased, seen: list[Erased] = seen) -> None:
            seen.append(erased)
            raise PowerCutError

        with pytest.raises(PowerCutError):
            await log.saver.log.retain(10 * DAY, on_thread=on_thread)
        assert [erased.thread_id for erased in seen] == [f"{cut}"]
        there = await log.everything()
        await log.check(before, there.keys() & before.keys())
        assert len(there) == 9 - 2 * cut

    drop = retain.drop_partition

    def third_fails(*arguments: Any) -> Any:
        if len(log.partitions()) == total - 2:
            raise PowerCutError
        return drop(*arguments)

    total = len(log.partitions())
    monkeypatch.setattr(retain, "drop_partition", third_fails)
    with pytest.raises(PowerCutError):
        await log.saver.log.retain(10 * DAY)
    await log.check(before, survivors)
    monkeypatch.undo()

    retained = await log.saver.log.retain(10 * DAY)
    assert retained.relocated_threads == 0
    assert retained.partitions
    await log.check(before, survivors)
    assert log.tables.rows("select 1 from {schema}.streams where thread_id = '4'") == []
    contents = log.tables.contents()
    assert (await log.saver.log.retain(10 * DAY)).partitions == []
    assert log.tables.contents() == contents


async def test_a_dry_run_changes_nothing(log: Log) -> None:
    """Says what would go, and changes nothing."""
    await log.grow("1", *(f"c{number}" for number in range(8)), days=2)
    await log.grow("idle", "c1", days=30)
    contents, partitions = log.tables.contents(), log.partitions()
    seen: list[Erased] = []
    would = await log.saver.log.retain(10 * DAY, drop_idle=True, dry_run=True)
    assert (would.relocated_threads, would.dropped_threads) == (0, 2)
    would = await log.saver.log.retain(10 * DAY, dry_run=True, on_thread=seen.append)
    assert log.tables.contents() == contents
    assert log.partitions() == partitions

    done: list[Erased] = []
    did = await log.saver.log.retain(10 * DAY, on_thread=done.append)

    assert [(e.thread_id, e.events, e.checkpoints) for e in seen] == [
        (e.thread_id, e.events, e.checkpoints) for e in done
    ]
    assert [each.name for each in would.partitions] == [each.name for each in did.partitions]
    assert (would.before, would.relocated_threads) == (did.before, did.relocated_threads)
    assert sum(erased.checkpoints for erased in done) == 7


async def test_events_are_archived_before_their_partition_is_dropped(log: Log, tmp_path: Path) -> None:
    """Each partition's events are in a file before it goes, as they were stored."""
    await log.grow("1", *(f"c{number}" for number in range(4)), days=1)
    log.clock.advance(10 * DAY)
    columns = "thread_id, checkpoint_ns, seq, recorded_at, kind, checkpoint_id, base_seq, digest, body"
    stored = log.tables.rows(f"select {columns} from {{schema}}.events order by recorded_at, seq")  # type: ignore[arg-type]

    retained = await log.saver.log.retain(5 * DAY, archive=tmp_path / "old" / "events")

    assert [path.name for path in retained.archives] == [f"{each.name}.parquet" for each in retained.partitions]
    archived = []
    for path in retained.archives:
        archived += pyarrow.parquet.read_table(path).to_pylist()
    names = columns.split(", ")
    assert [tuple(row[name] for name in names) for row in archived] == stored
    assert list((tmp_path / "old" / "events").glob("*.part")) == []

    (tmp_path / "file").touch()
    with pytest.raises(EventLogError, match="is a file"):
        await log.saver.log.retain(5 * DAY, archive=tmp_path / "file")


@pytest.mark.attack("superuser")
async def test_a_long_transaction_delays_the_drop_and_no_append(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long transaction keeps the drop waiting, never the appends; it is tried again, and in the end says so."""
    monkeypatch.setattr(retain, "DROP_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retain, "DROP_ATTEMPTS", 3)
    await log.grow("1", "c1", "c2", days=20)
    await log.grow("1", "c3")
    before = await log.everything()
    partitions = log.partitions()
    with psycopg.connect(log.uri) as conn:
        conn.execute("select count(*) from eventlog.events")
        with pytest.raises(LogBusyError, match="Run it again"):
            await log.saver.log.retain(10 * DAY)
        assert set(partitions) <= set(log.partitions())

        monkeypatch.setattr(retain, "DROP_ATTEMPTS", 1000)
        waiting = asyncio.ensure_future(log.saver.log.retain(10 * DAY))
        for number in range(20):
            await put(log.reader, config_of("2"), f"{number:02}", {"x": number})
        assert not waiting.done()
    retained = await waiting
    assert [f"eventlog.{each.name}" for each in retained.partitions] == partitions[: len(retained.partitions)]
    assert len(retained.partitions) >= 2
    await log.check(
        before | {key: found for key, found in (await log.everything()).items() if key[0] == "2"},
        {("1", "", "c3"), *(("2", "", f"{number:02}") for number in range(20))},
    )


async def test_the_database_refuses_to_drop_a_needed_partition(log: Log) -> None:
    """The database function makes sure of it itself, for any caller."""
    await log.grow("thread 7", "c1", days=20)
    contents = log.tables.contents()
    name = log.partitions()[0].removeprefix("eventlog.")
    with psycopg.connect(log.uri) as conn, pytest.raises(psycopg.errors.ObjectInUse, match="thread 7"):
        conn.execute("select eventlog.drop_partition_v1(%s, null)", (name,))
    assert log.tables.contents() == contents
    assert f"eventlog.{name}" in log.partitions()


async def test_only_the_owner_and_erasers_drop_partitions(log: Log, admin_role: str) -> None:
    """Others hear which right they lack, and nothing has changed."""
    await log.grow("1", "c1", "c2", days=20)
    await log.saver.log.make_partitions(3)
    contents = log.tables.contents()
    async with open_saver(log.kind, as_role(log.uri, admin_role), partition_interval="day") as saver:
        with pytest.raises(MissingGrantError, match="eventlog grant eraser 'reader of retention'"):
            await saver.log.retain(10 * DAY)
        assert log.tables.contents() == contents
        await log.saver.log.grant("eraser", admin_role)
        assert (await saver.log.retain(10 * DAY)).partitions
    assert log.tables.one("select count(distinct dropped_by) from {schema}.partitions") == 1


@pytest.fixture
def admin_role(server: Any, log: Log) -> str:
    """May read and append, and owns nothing."""
    name = "reader of retention"
    with psycopg.connect(log.uri, autocommit=True) as conn:
        if conn.execute("select 1 from pg_roles where rolname = %s", (name,)).fetchone() is None:
            conn.execute(f'create role "{name}" login')
        conn.execute(f'grant usage on schema eventlog to "{name}"')
        conn.execute(f'grant select on all tables in schema eventlog to "{name}"')
        conn.execute(f'grant execute on function eventlog.clock_v1 to "{name}"')
    return name


@pytest.mark.parametrize("interval", ["week", "month"])
async def test_weekly_and_monthly_partitions_are_dropped_whole(kind: str, interval: str, timed_uri: str) -> None:
    """Weeks and months end when they end."""
    clock = Clock(timed_uri, behind=200 * DAY)
    async with open_saver(kind, timed_uri, partition_interval=interval) as saver:
        await saver.setup()
        log = Log(timed_uri, kind, clock, saver, saver)
        await log.grow("1", *(f"c{number:02}" for number in range(20)), days=7)
        before = await log.everything()
        retained = await saver.log.retain(60 * DAY)
        assert retained.partitions
        assert len(await log.everything()) >= 60 // 7
        await log.check(before, (await log.everything()).keys())


async def test_a_changed_interval_after_retention_fills_the_period(log: Log) -> None:
    """It fills up the month, also where days were dropped; what was dropped is still known, and explains what ended."""
    log.clock.advance(-timedelta(days=log.tables.one("select extract(day from now() - interval '100 days')::int") - 1))
    await log.grow("1", "1", days=0)
    await log.grow("2", "1", days=0)
    await log.saver.adelete_thread("2")
    log.clock.advance(5 * DAY)
    await log.saver.log.retain(2 * DAY)
    dropped = log.tables.rows(
        "select name, dropped_at from {schema}.partitions where dropped_at is not null order by 1"
    )
    assert dropped
    async with open_saver(log.kind, log.uri, partition_interval="month") as monthly:
        made = await monthly.log.make_partitions(ahead=0)
        assert f"{dropped[0][0]}_2" in made
        assert await monthly.log.make_partitions(ahead=0) == []
        assert (await monthly.log.verify()).problems == []
        await monthly.log.retain(2 * DAY)
        assert (await monthly.log.verify()).problems == []
    kept = log.tables.rows("select name, dropped_at from {schema}.partitions where dropped_at is not null order by 1")
    assert set(dropped) <= set(kept)
    assert log.tables.one("select count(*) from {schema}.ended") == 1


async def test_retention_works_when_the_clock_went_back(log: Log) -> None:
    """Between appending and pruning: time within a stream does not."""
    await log.grow("1", "c1", "c2", "c3", days=1)
    before = await log.everything()
    log.clock.advance(-timedelta(days=2))
    await log.saver.log.prune(["1"], keep_last=1)
    await log.check(before, {("1", "", "c3")})
    await log.saver.acopy_thread("1", "2")
    await log.saver.adelete_thread("1")
    assert_sound(log.tables)


async def test_retention_without_old_events_does_nothing(log: Log) -> None:
    await log.grow("1", "c1", days=2)
    contents = log.tables.contents()
    retained = await log.saver.log.retain(timedelta(days=3))
    assert (retained.before, retained.partitions, retained.relocated_threads) == (None, [], 0)
    assert log.tables.contents() == contents


@pytest.mark.portable
async def test_two_retentions_with_one_archive_lose_no_file(log: Log, tmp_path: Path) -> None:
    """As when one takes longer than the interval of the job that starts it: no file is replaced by an empty one."""
    await log.grow("1", *(f"c{number}" for number in range(4)), days=1)
    log.clock.advance(10 * DAY)
    async with open_saver(log.kind, log.uri, partition_interval="day", partitions_ahead=1) as other:
        both = [saver.log.retain(5 * DAY, archive=tmp_path) for saver in (log.saver, other)]
        done = await asyncio.gather(*both, return_exceptions=True)
    assert not [each for each in done if isinstance(each, BaseException) and not isinstance(each, LogBusyError)]
    await log.saver.log.retain(5 * DAY, archive=tmp_path)
    files = sorted(tmp_path.glob("*"))
    assert all(path.suffix == ".parquet" for path in files)
    assert sum(pyarrow.parquet.read_table(path).num_rows for path in files) == 8


async def test_erasing_includes_superseded_events_awaiting_the_drop(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """What retention has cut is not to outlive the thread in its partition, nor what a prune erases."""

    def not_now(*_: Any) -> Any:
        raise RuntimeError

    for thread_id in ("deleted", "pruned"):
        await log.grow(thread_id, "c1", "c2", "c3", days=1)
    log.clock.advance(20 * DAY)
    monkeypatch.setattr(retain, "drop_partition", not_now)
    with pytest.raises(RuntimeError):
        await log.saver.log.retain(10 * DAY)
    for thread_id in ("deleted", "pruned"):
        assert log.tables.one("select count(*) from {schema}.events where thread_id = %s and seq < 5", thread_id) == 4
    await log.grow("pruned", "c4")

    await log.saver.adelete_thread("deleted")
    await log.saver.aprune(["pruned"])

    assert log.tables.one("select count(*) from {schema}.events where kind < 3 and thread_id = 'deleted'") == 0
    assert log.tables.one("select count(*) from {schema}.events where kind < 3 and thread_id = 'pruned'") == 2
    monkeypatch.undo()
    assert (await log.saver.log.verify()).problems == []
    await log.saver.log.retain(10 * DAY)
    assert (await log.saver.log.verify()).problems == []
    assert await listed_ids(log.reader, None) == ["c4"]


async def test_events_without_a_streams_row_are_not_dropped(log: Log) -> None:
    """The log is the truth: what no row of `streams` speaks for is not dropped."""
    await log.grow("1", "c1", "c2", days=20)
    log.tables.run("truncate {schema}.streams, {schema}.checkpoints, {schema}.snapshots")
    partitions = log.partitions()
    with pytest.raises(StorageError, match=r"thread 1 .* run rebuild\(\) first"):
        await log.saver.log.retain(10 * DAY)
    assert set(partitions) <= set(log.partitions())
    await log.saver.log.rebuild()
    await log.saver.log.retain(10 * DAY)
    assert await listed_ids(log.reader, None) == ["c2"]


async def test_a_damaged_thread_is_named_and_nothing_is_dropped(log: Log) -> None:
    """Others are cut all the same, nothing is dropped, and the error names it."""
    for thread_id in ("a", "broken", "c"):
        await log.grow(thread_id, "c1", "c2", days=5)
    log.clock.advance(20 * DAY)
    partitions = log.partitions()
    log.tables.replace_body("events", "broken", 1, b"\x01nonsense")
    with pytest.raises(
        LogCorruptedError, match="1 threads could not be relocated, so no partition was dropped: 'broken'"
    ):
        await log.saver.log.retain(10 * DAY)
    assert set(partitions) <= set(log.partitions())
    assert await listed_ids(log.reader, config_of("c")) == ["c2"]
    await log.saver.adelete_thread("broken")
    assert (await log.saver.log.retain(10 * DAY)).partitions
    assert await listed_ids(log.reader, None) == ["c2", "c2"]
