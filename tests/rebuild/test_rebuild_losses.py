"""What is lost stays known: a rebuild does not hide that events are missing, and numbers are not given out twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from typing_extensions import LiteralString

from eventlog.errors import EventsLostError, StorageError, ThreadExistsError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.cli.command import eventlog
from tests.rebuild.workload import append
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, put

pytestmark = pytest.mark.portable


@pytest.fixture
def tables(database_uri: str) -> Tables:
    return Tables(database_uri)


@pytest.fixture
def saver(database_uri: str) -> Iterator[EventLogSaver]:
    with ConnectionPool(database_uri, min_size=1, max_size=8, kwargs={"autocommit": True}) as pool:
        yield EventLogSaver(pool)


def lose(uri: str, statement: LiteralString) -> None:
    """What a superuser can do, whatever guards and marks."""
    with psycopg.connect(uri) as conn:
        conn.execute("set local session_replication_role = replica")
        conn.execute(statement)


def problems(verified: Any) -> list[tuple[str, int, str]]:
    return [(each.thread_id, each.seq, each.what) for each in verified.problems]


async def grow(saver: Any, thread_id: str, number: int) -> None:
    config = config_of(thread_id)
    for step in range(number):
        config = await put(saver, config, f"{step:02}", {"x": step}, metadata={"step": step})


# --- events are missing


@POOLS
async def test_missing_last_events_are_refused_until_the_loss_is_accepted(
    kind: str, database_uri: str, tables: Tables
) -> None:
    """`verify` names the loss before and after, and the numbers are not given out again."""
    async with open_saver(kind, database_uri) as saver:
        await grow(saver, "1", 33)
        await grow(saver, "2", 3)
        lose(database_uri, "delete from eventlog.events where thread_id = '1' and seq > 23")
        missing = ("1", 24, "missing: no record says that 24 to 33 went")
        assert missing in problems(await saver.log.verify())

        found = await saver.log.rebuild(check=True)
        (stream,) = (each for each in found.differences if each.table == "streams")
        assert stream.what == "events are missing"
        values = dict(zip(stream.columns, zip(stream.live, stream.derived, strict=True), strict=True))
        assert values["seq"] == ("33", "23")

        before = tables.contents()
        for _ in range(2):
            with pytest.raises(EventsLostError, match=r"thread '1'.* number 33, and event 23 is the last") as caught:
                await saver.log.rebuild()
            lost = caught.value
            assert (lost.thread_id, lost.checkpoint_ns, lost.last_seq, lost.expected_seq) == ("1", "", 23, 33)
        after = tables.contents()
        assert [after[table] for table in ("events", "streams", "checkpoints")] == [
            before[table] for table in ("events", "streams", "checkpoints")
        ]

        found = await saver.log.rebuild(accept_loss=True)
        assert found.differing == {"streams": 1, "checkpoints": 10, "snapshots": 0}
        record = tables.rows(
            "select seq, kind, {schema}.record_details_v1(body) - 'by' from {schema}.events"
            " where thread_id = '1' and seq > 23"
        )
        ((seq, recorded_kind, says),) = record
        assert (seq, recorded_kind, says["operation"]) == (34, 4, "accept_loss")
        assert [each[:2] for each in says["lost"]] == [[24, 33]]

        for latest, id_ in (("22", "23"), ("23", "24")):
            assert problems(await saver.log.verify()) == [missing]
            assert not any((await saver.log.rebuild()).differing.values())
            assert (await saver.aget_tuple(config_of("1"))).checkpoint["id"] == latest
            await put(saver, config_of("1", latest), id_, {"x": 0})
        assert tables.one("select max(seq) from {schema}.events where thread_id = '1'") == 36


@POOLS
async def test_a_stream_all_of_whose_events_are_missing_is_not_forgotten(
    kind: str, database_uri: str, tables: Tables
) -> None:
    async with open_saver(kind, database_uri) as saver:
        await grow(saver, "1", 3)
        await grow(saver, "2", 1)
        lose(database_uri, "delete from eventlog.events where thread_id = '1'")
        found = await saver.log.rebuild(check=True)
        assert {(each.table, each.what) for each in found.differences} == {
            ("streams", "events are missing"),
            ("checkpoints", "surplus"),
        }
        with pytest.raises(EventsLostError, match=r"number 3, and the log has no event of it"):
            await saver.log.rebuild()
        await saver.log.rebuild(accept_loss=True)
        assert tables.rows("select seq, kind from {schema}.events where thread_id = '1'") == [(4, 4)]
        assert tables.rows("select 1 from {schema}.checkpoints where thread_id = '1'") == []
        assert problems(await saver.log.verify()) == [("1", 1, "missing: no record says that 1 to 3 went")]
        await grow(saver, "1", 1)
        assert tables.one("select max(seq) from {schema}.events where thread_id = '1'") == 5
        assert not any((await saver.log.rebuild(check=True)).differing.values())


def test_the_command_refuses_a_loss_with_1_and_records_it_when_told_to(saver: EventLogSaver, database_uri: str) -> None:
    for step in range(3):
        append(saver, "1", f"{step}", f"{step - 1}" if step else None)
    lose(database_uri, "delete from eventlog.events where seq > 1")
    done = eventlog(database_uri, "rebuild", "--check")
    assert done.exit_code == 1
    assert "events are missing" in done.stdout
    done = eventlog(database_uri, "rebuild")
    assert done.exit_code == 1
    assert "`streams` has number 3, and event 1 is the last one in the log" in done.stderr
    assert eventlog(database_uri, "rebuild", "--accept-loss").exit_code == 0
    done = eventlog(database_uri, "verify")
    assert done.exit_code == 1
    assert "missing: no record says that 2 to 3 went" in done.stdout


def test_a_loss_before_the_last_event_stays_a_problem(saver: EventLogSaver, database_uri: str) -> None:
    """A hole: a rebuild derives what is left, and `verify` goes on to name it."""
    for step in range(4):
        append(saver, "1", f"{step}", None, n=step)
    lose(database_uri, "delete from eventlog.events where seq = 2")
    saver.log.rebuild()
    assert ("1", 2, "missing: no record says that 2 went") in problems(saver.log.verify())


# --- rows of `streams` are missing


@POOLS
async def test_numbers_go_on_where_a_streams_row_was_deleted(kind: str, database_uri: str, tables: Tables) -> None:
    """The first append looks into the log for the last number, as does a copy; a rebuild makes the rest."""
    async with open_saver(kind, database_uri, state_cache_bytes=0) as saver:
        for thread_id in ("1", "2", "3"):
            await grow(saver, thread_id, 3)
        await put(saver, config_of("1", ns="child"), "00", {"x": 1})
        await saver.adelete_thread("2")
        tables.run("delete from {schema}.streams where thread_id in ('1', '2')", "truncate {schema}.checkpoints")
        assert tables.rows("select thread_id, finished_at is null from {schema}.rebuilds") == [("", True)]
        await put(saver, config_of("1"), "10", {"x": 1})
        await put(saver, config_of("1", ns="child"), "10", {"x": 1})
        await saver.aput_writes(config_of("2", "10"), [("x", 1)], "task")
        await put(saver, config_of("new"), "00", {"x": 1})
        with pytest.raises(ThreadExistsError):
            await saver.acopy_thread("3", "1")
        last = "select thread_id, checkpoint_ns, max(seq) from {schema}.events group by 1, 2 order by 1, 2"
        assert tables.rows(last) == [("1", "", 4), ("1", "child", 2), ("2", "", 5), ("3", "", 3), ("new", "", 1)]
        await saver.log.rebuild()
        assert tables.rows("select 1 from {schema}.rebuilds where finished_at is null") == []
        assert [each.checkpoint["id"] async for each in saver.alist(config_of("1", ns=""))] == ["10", "02", "01", "00"]
        assert (await saver.log.verify()).problems == []
        assert not any((await saver.log.rebuild(check=True)).differing.values())


@pytest.mark.parametrize("is_set_up", [True, False])
def test_numbers_go_on_where_a_log_was_restored_without_streams(
    is_set_up: bool, saver: EventLogSaver, database_uri: str, tables: Tables
) -> None:
    """`setup()` marks the log; before it, the restore itself does."""
    append(saver, "1", "1")
    lose(database_uri, "delete from eventlog.streams")
    # As after a dump: rows have other transactions than they say.
    tables.run("update {schema}.generations set xid = xid where generation > 0")
    if is_set_up:
        saver.setup()
    assert tables.one("select count(*) from {schema}.rebuilds where finished_at is null") == is_set_up
    append(saver, "1", "2")
    assert tables.rows("select seq from {schema}.events order by 1") == [(1,), (2,)]
    saver.log.rebuild()
    assert saver.log.verify().problems == []


def test_a_restore_of_everything_does_not_mark_the_log(saver: EventLogSaver, tables: Tables) -> None:
    append(saver, "1", "1")
    tables.run("update {schema}.generations set xid = xid where generation > 0")
    saver.setup()
    assert tables.rows("select 1 from {schema}.rebuilds") == []


def test_a_rebuild_during_which_rows_of_streams_are_deleted_must_be_run_again(
    saver: EventLogSaver, tables: Tables
) -> None:
    """What it had done may be what was deleted."""
    for number in range(3):
        append(saver, f"{number}", "1")
    with pytest.raises(StorageError, match="were deleted during the rebuild: run it again"):
        saver.log.rebuild(on_progress=lambda _: tables.run("delete from {schema}.streams where thread_id = '0'"))
    assert saver.log.rebuild().differing["streams"] == 1
    assert not any(saver.log.rebuild(check=True).differing.values())


def test_the_drop_of_a_partition_with_its_streams_does_not_mark_the_log(saver: EventLogSaver, tables: Tables) -> None:
    """What ends is not lost."""
    append(saver, "1", "1")
    saver.delete_thread("1")
    name = tables.one("select name from {schema}.partitions order by starts_at limit 1")
    tables.rows("select {schema}.drop_partition_v1(%s, null)", name)
    assert tables.rows("select 1 from {schema}.streams") == []
    assert tables.rows("select 1 from {schema}.rebuilds") == []
