"""A history in pages, while others append and erase; and what operations leave of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from langgraph.checkpoint.eventlog import HistoryEntry
from tests.audit.test_history import history
from tests.support.adapters import POOLS, LogUnderTest, open_log_under_test, open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import TEXTS, Tables, config_of, converse, put, tangle

__all__ = ["log"]


@pytest.fixture
async def world(kind: str, database_uri: str) -> AsyncIterator[LogUnderTest]:
    async with open_log_under_test(kind, database_uri) as opened:
        yield opened


# --- order and pages


async def several(saver: Any) -> None:
    """Namespaces that take turns, forks, repeats, a copy's record, and events that were relocated."""
    await converse(saver, "0", ids="abc")
    await saver.acopy_thread("0", "1")
    for id_ in "defgh":
        for ns in ("", "sub", "sub|x:1"):
            parent = chr(ord(id_) - 1) if ns == "" or id_ > "d" else None
            await put(saver, config_of("1", parent, ns), id_, {"x": [*TEXTS, id_]})
            await saver.aput_writes(config_of("1", id_, ns), [("x", [*TEXTS, id_, ns])], "task")
    await put(saver, config_of("1", "e"), "e1", {"x": [*TEXTS, "e1"]})
    await put(saver, config_of("1", "f"), "g", {"x": [*TEXTS, "again"]})


@pytest.mark.parametrize("pruned", [False, True])
@POOLS
async def test_pages_of_any_size_add_up_to_the_whole_history(kind: str, pruned: bool, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        await several(saver)
        if pruned:
            await saver.log.prune(["1"], keep_last=2)
        whole = await history(saver)
        assert len(whole) == (17 if pruned else 42)
        assert [(r.time, r.checkpoint_ns, r.seq) for r in whole] == sorted(
            (r.time, r.checkpoint_ns, r.seq) for r in whole
        )
        assert await history(saver, newest_first=True) == whole[::-1]
        for newest_first in (False, True):
            expected = whole[::-1] if newest_first else whole
            for size in range(1, len(whole) + 2):
                found: list[HistoryEntry] = []
                while page := await history(
                    saver, limit=size, newest_first=newest_first, after=found[-1] if found else None
                ):
                    assert len(page) <= size
                    found += page
                assert found == expected, size


@POOLS
async def test_filters_yield_the_same_records_as_the_whole_history(kind: str, database_uri: str) -> None:
    """One namespace, some kinds: the same records."""
    async with open_saver(kind, database_uri) as saver:
        await several(saver)
        whole = await history(saver)
        for ns in ("", "sub", "sub|x:1", "never"):
            assert await history(saver, checkpoint_ns=ns) == [r for r in whole if r.checkpoint_ns == ns]
        for kinds in (["checkpoint"], ["writes", "copied"], ["deleted"], []):
            for newest_first in (False, True):
                found = await history(saver, kinds=kinds, newest_first=newest_first)
                assert found == [r for r in (whole[::-1] if newest_first else whole) if r.kind in kinds]
        middle = whole[len(whole) // 2]
        assert await history(saver, after=middle.cursor, checkpoint_ns="sub") == [
            r for r in whole[whole.index(middle) + 1 :] if r.checkpoint_ns == "sub"
        ]
        assert await history(saver, limit=0) == []
        assert await history(saver, after=whole[-1]) == []


@pytest.mark.portable
async def test_pages_are_bounded_by_bytes_and_have_at_least_one_event(
    database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await several(saver)
        whole = await history(saver)
        monkeypatch.setattr("eventlog.thread_events.PAGE_BYTES", 4000)
        assert await history(saver) == whole
        assert await history(saver, newest_first=True) == whole[::-1]


async def test_a_base_on_an_earlier_page_is_read_again(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read again, whether or not it is still its checkpoint's current event."""
    async with open_saver("sync-pool", database_uri) as saver:
        await tangle(saver)
        whole = await history(saver)
        monkeypatch.setattr("projections.history.KEPT_BYTES", 1)
        assert await history(saver) == whole
        Tables(database_uri).run("truncate {schema}.snapshots")
        assert await history(saver) == whole


async def test_pages_keep_their_order_while_others_append(saver: Any) -> None:
    """What was there is told once and in order; what comes meanwhile, oldest first, is told too."""
    await converse(saver, ids="abcdefghij")
    for number in range(40):
        await put(saver, config_of("1", "j"), f"k{number:02}", {"x": number})
    before = await history(saver)
    reading = saver.log.history("1")
    found = [await anext(reading)]
    for ns in ("", "sub"):
        await put(saver, config_of("1", "j" if ns == "" else None, ns), "z", {"x": 1})
    found += [record async for record in reading]
    assert found[:-2] == before
    assert [(r.checkpoint_ns, r.checkpoint_id, r.fork) for r in found[-2:]] == [("", "z", True), ("sub", "z", False)]

    backwards = saver.log.history("1", newest_first=True)
    newest = await anext(backwards)
    for ns in ("", "new"):
        await put(saver, config_of("1", None, ns), "zz", {"x": 1})
    assert [newest] + [record async for record in backwards] == found[::-1]


@pytest.mark.parametrize("newest_first", [False, True])
@POOLS
async def test_events_relocated_between_pages_are_listed_once(
    kind: str, newest_first: bool, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What survives is told once, where it stood before, though it was appended again meanwhile."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog.audit.history.HISTORY_PAGES", (3, 3))
    async with open_saver(kind, database_uri) as saver:
        await several(saver)
        before = await history(saver, newest_first=newest_first)
        reading = saver.log.history("1", newest_first=newest_first)
        found = [await anext(reading) for _ in range(9)]
        assert found == before[:9]
        await saver.log.prune(["1"], keep_last=2)
        survivors = {(record.checkpoint_ns, record.seq) for record in await history(saver)}
        rest = [record async for record in reading]
        kept = [record for record in rest if record.kind != "erased"]
        expected = [record for record in before[9:] if (record.checkpoint_ns, record.seq) in survivors]
        assert [(r.checkpoint_ns, r.seq, r.time) for r in kept] == [(r.checkpoint_ns, r.seq, r.time) for r in expected]
        # The records of it come last, or were not there when the reading began.
        assert len(rest) - len(kept) == (0 if newest_first else 3)


@POOLS
async def test_reading_survives_erasure_between_two_queries(
    kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page builds on may go between two queries. No reading fails for that, no thread is said to be broken."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog.audit.history.HISTORY_PAGES", (2, 2))
    monkeypatch.setattr("langgraph.checkpoint.eventlog.audit.history.CHANGES_PAGES", (2, 2))
    async with open_saver(kind, database_uri) as saver, open_saver("async-pool", database_uri) as other:
        await converse(saver)

        async def work() -> None:
            for number in range(12):
                for id_ in "ijk":
                    latest = await other.aget_tuple(config_of("1"))
                    text = f"{number:02}{id_}"
                    await put(other, latest.config, f"k{text}", {"x": [*TEXTS, text], "y": 1})
                await other.log.prune(["1"], keep_last=2)

        working = asyncio.ensure_future(work())
        readings = 0
        while not working.done():
            newest_first = bool(readings % 2)
            assert await history(saver, newest_first=newest_first)
            assert [change async for change in saver.log.changes("1", newest_first=newest_first)]
            readings += 1
        await working
    assert readings


@POOLS
async def test_records_keep_their_places_while_eight_writers_append(kind: str, database_uri: str) -> None:
    """Read again and again while eight write: what was read stays where it was, and all of it is there in the end."""
    async with open_saver(kind, database_uri) as saver:

        async def write(ns: str) -> None:
            config = config_of("1", ns=ns)
            for number in range(12):
                config = await put(saver, config, f"{number:02}", {"x": [*TEXTS, number]})

        await put(saver, config_of("1", ns="0"), "!", {"x": 0})
        writers = asyncio.gather(*(write(str(number)) for number in range(8)))
        readings = []
        while not writers.done():
            readings.append(await history(saver))
        await writers
        whole = await history(saver)
    assert len(whole) == 8 * 12 + 1
    for reading in readings:
        for ns in {record.checkpoint_ns for record in reading}:
            seqs = [record.seq for record in reading if record.checkpoint_ns == ns]
            assert seqs == list(range(1, len(seqs) + 1))


# --- operations


async def test_history_after_a_prune_lists_survivors_and_the_record(world: LogUnderTest) -> None:
    """What is left of the events, with the times that they had, what was relocated, and who pruned."""
    await tangle(world.saver)
    before = {record.seq: record for record in await history(world.saver)}
    await world.saver.log.prune(["1"], actor="me")
    *kept, pruned = await history(world.saver)

    assert [(r.seq, r.kind, r.checkpoint_id) for r in kept] == [
        (23, "writes", "h"),
        (24, "writes", "h"),
        (26, "checkpoint", "h"),
        (30, "writes", "i"),
    ]
    assert all(r.time == before[r.seq].time for r in kept)
    assert [r.seq for r in kept if r.relocated_at] == [24, 26]
    assert [r.position == before[r.seq].position for r in kept] == [True, False, False, True]
    # It was put before, and says so still.
    assert [r.repeat for r in kept] == [False, False, True, False]
    assert kept[2].parent_id is None
    assert pruned.kind == "erased"
    assert pruned.operation is not None
    told = pruned.operation
    assert (told["operation"], told["actor"], told["strategy"], told["by"]) == (
        "prune",
        "me",
        "keep_latest",
        "postgres",
    )
    assert (told["events"], told["checkpoints"], told["relocated"]) == (26, 9, 2)
    assert told["bytes"] > 0
    assert told.keys().isdisjoint({"erased", "cut"})


async def test_history_of_a_deleted_thread_lists_the_deletion_and_later_events(saver: Any) -> None:
    """A deleted thread is known still, and what it was afterwards is told too."""
    await converse(saver)
    await put(saver, config_of("1", ns="sub"), "a", {"x": 1})
    await saver.log.delete_thread("1", actor="me")
    for record, ns in zip(await history(saver), ("", "sub"), strict=True):
        assert (record.kind, record.checkpoint_ns, record.checkpoint_id) == ("deleted", ns, None)
        assert record.operation is not None
        assert record.operation["actor"] == "me"
        assert record.stored_bytes == record.encoded_bytes
    await put(saver, config_of("1"), "z", {"x": 1})
    assert [record.kind for record in await history(saver)] == ["deleted", "deleted", "checkpoint"]


async def test_history_of_a_copy_equals_its_sources(saver: Any) -> None:
    await tangle(saver)
    source = await history(saver)
    await saver.log.copy_thread("1", "2", actor="me")
    *copied, record = await history(saver, "2")
    for one, other in zip(source, copied, strict=True):
        same = ("seq", "kind", "checkpoint_id", "parent_id", "channels", "fork", "repeat", "task_id", "encoded_bytes")
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
    assert record.kind == "copied"
    assert record.operation is not None
    assert record.operation["source"] == "1"
    assert record.operation["events"] == len(source)
    await saver.log.fork_thread("1", "3", "d1")
    *forked, record = await history(saver, "3")
    assert {each.checkpoint_id for each in forked} == {"a", "b", "c", "d", "d1"}
    assert record.operation is not None
    assert record.operation["checkpoint_id"] == "d1"


async def test_superseded_events_are_not_listed_while_their_partition_exists(world: LogUnderTest) -> None:
    await tangle(world.saver)
    records = await history(world.saver)
    cut = records[20]
    with psycopg.connect(world.uri) as conn:
        conn.execute("update eventlog.streams set begins_at = %s", (cut.time,))
    assert [r.seq for r in await history(world.saver, kinds=["writes"])] == [
        r.seq for r in records[20:] if r.kind == "writes"
    ]
    # Of what they build on nothing is there, and nothing is told of it; what they did not build on is.
    found = await history(world.saver, newest_first=True)
    assert [r.seq for r in found] == [r.seq for r in records[:19:-1]]


async def test_history_after_retention_keeps_relocated_events_in_place(log: Log) -> None:
    """What is void is not told; what was relocated stands where it stood."""
    await log.grow("1", "1", "2", "3", days=10)
    await log.grow("1", "1", ns="sub")
    before = await history(log.saver)
    await log.saver.log.retain(timedelta(days=5))
    found = await history(log.saver)
    kept = [record for record in found if record.kind != "erased"]
    assert [(r.checkpoint_id, r.kind) for r in kept] == [
        ("3", "checkpoint"),
        ("3", "writes"),
        ("1", "checkpoint"),
        ("1", "writes"),
    ]
    times = {(record.checkpoint_ns, record.seq): record.time for record in before}
    assert all(record.time == times[record.checkpoint_ns, record.seq] for record in kept)
    assert [bool(record.relocated_at) for record in kept] == [True, True, False, False]
    relocated_at = kept[0].relocated_at
    assert relocated_at is not None
    assert relocated_at - kept[0].time > 9 * DAY
    assert await history(log.saver, newest_first=True) == found[::-1]
    await log.grow("1", "4")
    assert [r.checkpoint_id for r in await history(log.saver, after=found[-1])] == ["4", "4"]
