"""The history of a thread: one record for each event, in order, told without decoding states."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from eventlog.events import Kind
from langgraph.checkpoint.eventlog import ChannelChange, HistoryRecord
from tests.adapters import POOLS, World, open_saver, open_world
from tests.aging import DAY, Log, log
from tests.checkpoints import TEXTS, Tables, config_of, converse, put, tangle

__all__ = ["log"]


async def history(saver: Any, thread_id: Any = "1", **options: Any) -> list[HistoryRecord]:
    return [record async for record in saver.history(thread_id, **options)]


@pytest.fixture
async def world(kind: str, database_uri: str) -> AsyncIterator[World]:
    async with open_world(kind, database_uri) as opened:
        yield opened


def channels(record: HistoryRecord) -> dict[str, tuple[str, int | None, int | None]]:
    return {each.channel: (each.what, each.items, each.length) for each in record.channels}


def of(records: list[HistoryRecord], kind: str) -> list[HistoryRecord]:
    return [record for record in records if record.kind == kind]


# --- what a record says


async def test_a_run(saver: Any) -> None:
    """Step by step, with what happened in each channel, who wrote what, and the sizes."""
    first = await put(
        saver,
        config_of("1"),
        "a",
        {"list": [*TEXTS], "text": "t" * 100, "number": 1},
        metadata={"step": -1, "source": "input", "run_id": "run"},
    )
    await saver.aput_writes(first, [("list", ["w"]), ("number", 7)], "task", "path")
    second = await put(
        saver,
        first,
        "b",
        {"list": [*TEXTS, "more", "and more"], "text": "t" * 99 + "!", "new": {"k": 1}},
        metadata={"step": 0, "source": "loop", "run_id": "run"},
    )
    await put(saver, second, "c", {"list": [TEXTS[0], *TEXTS, "more", "and more"]}, metadata={"step": "no number"})

    records = await history(saver)

    assert [(r.seq, r.kind, r.checkpoint_id, r.parent_id) for r in records] == [
        (1, "checkpoint", "a", None),
        (2, "writes", "a", None),
        (3, "checkpoint", "b", "a"),
        (4, "checkpoint", "c", "b"),
    ]
    assert [(r.step, r.source, r.run_id) for r in records] == [
        (-1, "input", "run"),
        (None, None, None),
        (0, "loop", "run"),
        (None, None, None),
    ]
    assert [(r.task_id, r.task_path) for r in records] == [(None, None), ("task", "path"), (None, None), (None, None)]
    assert channels(records[0]) == {
        "list": ("set", None, 30),
        "text": ("set", None, None),
        "number": ("set", None, None),
    }
    assert channels(records[1]) == {"list": ("written", None, 1), "number": ("written", None, None)}
    assert channels(records[2]) == {
        "list": ("appended", 2, 32),
        "text": ("changed", None, None),
        "new": ("set", None, None),
        "number": ("removed", None, None),
    }
    assert channels(records[3]) == {
        "list": ("changed", None, 33),
        "text": ("removed", None, None),
        "new": ("removed", None, None),
    }
    # Two short texts, and a header that says how many there are.
    assert records[2].channels[0] == ChannelChange("list", "appended", 2, 32, 3 + len("more") + len("and more") + 2)
    assert all(r.stored_bytes <= r.encoded_bytes for r in records)
    assert records[0].encoded_bytes > 6000 > records[0].stored_bytes > 3000
    assert [r.position for r in records] == sorted(r.position for r in records)
    assert [r.time for r in records] == sorted(r.time for r in records)
    assert not any(r.fork or r.repeat or r.carried_at or r.operation for r in records)


async def test_records_are_plain_data(saver: Any) -> None:
    """For a machine: as JSON, but for times."""
    await tangle(saver)
    for record in await history(saver):
        document = json.loads(json.dumps(asdict(record), default=lambda at: at.isoformat()))
        assert document["channels"][0]["channel"]
        assert document["time"]


async def test_positions_and_sizes_are_those_of_the_log(world: World) -> None:
    await tangle(world.saver)
    stored = world.tables.rows(
        "select seq, position, recorded_at, octet_length(body) from {schema}.events order by seq"
    )
    assert [(r.seq, r.position, r.time, r.stored_bytes) for r in await history(world.saver)] == stored


class Counting(JsonPlusSerializer):
    """Counts what is decoded."""

    loaded = 0

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        self.loaded += 1
        return super().loads_typed(data)


@POOLS
async def test_decodes_nothing_but_metadata(kind: str, database_uri: str) -> None:
    async with open_world(kind, database_uri) as world:
        await tangle(world.saver)
        serde = Counting()
        async with open_saver(kind, database_uri, serde=serde) as reader:
            for newest_first in (False, True):
                serde.loaded = 0
                records = await history(reader, newest_first=newest_first)
                assert serde.loaded == len(of(records, "checkpoint")) == 12


@pytest.mark.parametrize(
    ("before", "after"),
    [(0, 1), (1, 2), (1, 16), (14, 15), (15, 16), (16, 300), (255, 256), (300, 556), (65535, 65536), (65536, 65800)],
)
async def test_appended_counts(before: int, after: int, saver: Any) -> None:
    """Whatever the size of the header that msgpack gives the array."""
    parent = await put(saver, config_of("1"), "a", {"x": [f"item {number}" for number in range(before)]})
    await put(saver, parent, "b", {"x": [f"item {number}" for number in range(after)]})
    _, record = await history(saver)
    assert channels(record) == {"x": ("appended", after - before, after)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([*TEXTS], [*TEXTS[1:], "x"]),
        ([*TEXTS], [*TEXTS[1:], "x", "y"]),
        ([*TEXTS], ["x", *TEXTS]),
        ([*TEXTS], [*TEXTS[:29], "x", "y"]),
        ([*TEXTS], [*TEXTS[:15], "x", *TEXTS[15:]]),
        ([*TEXTS], TEXTS[:20]),
        ([1, 2], [1, 3, 4]),
        ([1], [2, 1]),
        ({"list": [*TEXTS]}, {"list": [*TEXTS, "x"]}),
        ("x" * 100, "x" * 200),
        ([*TEXTS], "x"),
    ],
)
async def test_what_is_no_appending(before: Any, after: Any, saver: Any) -> None:
    parent = await put(saver, config_of("1"), "a", {"x": before})
    await put(saver, parent, "b", {"x": after})
    _, record = await history(saver)
    (change,) = record.channels
    assert change.what in ("set", "changed")
    assert change.items is None
    assert change.length == (len(after) if isinstance(after, list) else None)


async def test_forks_and_repeats(saver: Any) -> None:
    await tangle(saver)
    records = of(await history(saver), "checkpoint")
    assert [(r.checkpoint_id, r.fork, r.repeat) for r in records[8:]] == [
        ("d", False, True),
        ("h", False, True),
        ("d1", True, False),
        ("d2", False, False),
    ]
    assert not any(r.fork or r.repeat for r in records[:8])


async def test_a_checkpoint_put_again_under_another_parent(saver: Any) -> None:
    """Each event is told as what it was, though the projection has only the last."""
    for id_, parent in (("a", None), ("b", "a"), ("c", "a"), ("d", "a"), ("c", "b"), ("e", "b")):
        await put(saver, config_of("1", parent), id_, {"x": f"{id_} under {parent}"})
    records = await history(saver)
    assert [r.checkpoint_id for r in records if r.fork] == ["c", "d", "e"]
    assert [(r.checkpoint_id, r.parent_id) for r in records if r.repeat] == [("c", "b")]


async def test_writes_put_again(saver: Any) -> None:
    """By the same task under the same number; another number of the task, or another task, is none."""
    config = await put(saver, config_of("1"), "a")
    for task, write in (("1", "x"), ("2", "x"), ("1", "x"), ("2", "__error__"), ("2", "__error__"), ("3", "x")):
        await saver.aput_writes(config, [(write, task)], task)
    for options in ({}, {"newest_first": True}, {"kinds": ["writes"]}):
        records = await history(saver, **options)
        assert sorted(r.seq for r in records if r.repeat) == [4, 6]
    after = None
    for seq in range(1, 8):
        (record,) = await history(saver, limit=1, after=after)
        assert record.repeat == (seq in (4, 6))
        after = record


# --- order and pages


async def several(saver: Any) -> None:
    """Namespaces that take turns, forks, repeats, a copy's record, and events that were carried forward."""
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
async def test_pages(kind: str, pruned: bool, database_uri: str) -> None:
    """However it is cut, it is the same history: nothing twice, nothing left out, nothing told otherwise."""
    async with open_saver(kind, database_uri) as saver:
        await several(saver)
        if pruned:
            await saver.aprune(["1"], keep_last=2)
        whole = await history(saver)
        assert len(whole) == (17 if pruned else 42)
        assert [(r.time, r.checkpoint_ns, r.seq) for r in whole] == sorted(
            (r.time, r.checkpoint_ns, r.seq) for r in whole
        )
        assert await history(saver, newest_first=True) == whole[::-1]
        for newest_first in (False, True):
            expected = whole[::-1] if newest_first else whole
            for size in range(1, len(whole) + 2):
                found: list[HistoryRecord] = []
                while page := await history(
                    saver, limit=size, newest_first=newest_first, after=found[-1] if found else None
                ):
                    assert len(page) <= size
                    found += page
                assert found == expected, size


@POOLS
async def test_parts(kind: str, database_uri: str) -> None:
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


async def test_pages_of_large_events(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is bounded by its bytes, and has one event at least."""
    async with open_saver("sync-pool", database_uri) as saver:
        await several(saver)
        whole = await history(saver)
        monkeypatch.setattr("eventlog.auditing.PAGE_BYTES", 4000)
        assert await history(saver) == whole
        assert await history(saver, newest_first=True) == whole[::-1]


async def test_a_base_that_is_long_ago(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read again, whether or not it is still its checkpoint's current event."""
    async with open_saver("sync-pool", database_uri) as saver:
        await tangle(saver)
        whole = await history(saver)
        monkeypatch.setattr("projections.history.MOST_STATES", 1)
        assert await history(saver) == whole
        Tables(database_uri).run("truncate {schema}.snapshots")
        assert await history(saver) == whole


async def test_while_others_append(saver: Any) -> None:
    """What was there is told once and in order; what comes meanwhile, oldest first, is told too."""
    await converse(saver, ids="abcdefghij")
    for number in range(40):
        await put(saver, config_of("1", "j"), f"k{number:02}", {"x": number})
    before = await history(saver)
    reading = saver.history("1")
    found = [await anext(reading)]
    for ns in ("", "sub"):
        await put(saver, config_of("1", "j" if ns == "" else None, ns), "z", {"x": 1})
    found += [record async for record in reading]
    assert found[:-2] == before
    assert [(r.checkpoint_ns, r.checkpoint_id, r.fork) for r in found[-2:]] == [("", "z", True), ("sub", "z", False)]

    backwards = saver.history("1", newest_first=True)
    newest = await anext(backwards)
    for ns in ("", "new"):
        await put(saver, config_of("1", None, ns), "zz", {"x": 1})
    assert [newest] + [record async for record in backwards] == found[::-1]


@pytest.mark.parametrize("newest_first", [False, True])
@POOLS
async def test_pruned_between_pages(
    kind: str, newest_first: bool, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What survives is told once, where it stood before, though it was appended again meanwhile."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog._history.History.pages", (3, 3))
    async with open_saver(kind, database_uri) as saver:
        await several(saver)
        before = await history(saver, newest_first=newest_first)
        reading = saver.history("1", newest_first=newest_first)
        found = [await anext(reading) for _ in range(9)]
        assert found == before[:9]
        await saver.aprune(["1"], keep_last=2)
        survivors = {(record.checkpoint_ns, record.seq) for record in await history(saver)}
        rest = [record async for record in reading]
        kept = [record for record in rest if record.kind != "erased"]
        expected = [record for record in before[9:] if (record.checkpoint_ns, record.seq) in survivors]
        assert [(r.checkpoint_ns, r.seq, r.time) for r in kept] == [(r.checkpoint_ns, r.seq, r.time) for r in expected]
        # The records of it come last, or were not there when the reading began.
        assert len(rest) - len(kept) == (0 if newest_first else 3)


@POOLS
async def test_erased_while_it_is_read(kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page builds on may go between two queries. No reading fails for that, no thread is said to be broken."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog._history.History.pages", (2, 2))
    monkeypatch.setattr("langgraph.checkpoint.eventlog._history.Changes.pages", (2, 2))
    async with open_saver(kind, database_uri) as saver, open_saver("async-pool", database_uri) as other:
        await converse(saver)

        async def work() -> None:
            for number in range(12):
                for id_ in "ijk":
                    latest = await other.aget_tuple(config_of("1"))
                    text = f"{number:02}{id_}"
                    await put(other, latest.config, f"k{text}", {"x": [*TEXTS, text], "y": 1})
                await other.aprune(["1"], keep_last=2)

        working = asyncio.ensure_future(work())
        readings = 0
        while not working.done():
            newest_first = bool(readings % 2)
            assert await history(saver, newest_first=newest_first)
            assert [change async for change in saver.changes("1", newest_first=newest_first)]
            readings += 1
        await working
    assert readings


@POOLS
async def test_concurrent_writers(kind: str, database_uri: str) -> None:
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


async def test_prune(world: World) -> None:
    """What is left of the events, with the times that they had, what was carried forward, and who pruned."""
    await tangle(world.saver)
    before = {record.seq: record for record in await history(world.saver)}
    await world.saver.aprune(["1"], actor="me")
    *kept, pruned = await history(world.saver)

    assert [(r.seq, r.kind, r.checkpoint_id) for r in kept] == [
        (23, "writes", "h"),
        (24, "writes", "h"),
        (26, "checkpoint", "h"),
        (30, "writes", "i"),
    ]
    assert all(r.time == before[r.seq].time for r in kept)
    assert [r.seq for r in kept if r.carried_at] == [24, 26]
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
    assert (told["events"], told["checkpoints"], told["carried"]) == (26, 9, 2)
    assert told["bytes"] > 0
    assert told.keys().isdisjoint({"erased", "uncarried"})


async def test_delete(saver: Any) -> None:
    """A deleted thread is known still, and what it was afterwards is told too."""
    await converse(saver)
    await put(saver, config_of("1", ns="sub"), "a", {"x": 1})
    await saver.adelete_thread("1", actor="me")
    for record, ns in zip(await history(saver), ("", "sub"), strict=True):
        assert (record.kind, record.checkpoint_ns, record.checkpoint_id) == ("deleted", ns, None)
        assert record.operation is not None
        assert record.operation["actor"] == "me"
        assert record.stored_bytes == record.encoded_bytes
    await put(saver, config_of("1"), "z", {"x": 1})
    assert [record.kind for record in await history(saver)] == ["deleted", "deleted", "checkpoint"]


async def test_copies(saver: Any) -> None:
    await tangle(saver)
    source = await history(saver)
    await saver.acopy_thread("1", "2", actor="me")
    *copied, record = await history(saver, "2")
    for one, other in zip(source, copied, strict=True):
        same = ("seq", "kind", "checkpoint_id", "parent_id", "channels", "fork", "repeat", "task_id", "encoded_bytes")
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
    assert record.kind == "copied"
    assert record.operation is not None
    assert record.operation["source"] == "1"
    assert record.operation["events"] == len(source)
    await saver.fork_thread("1", "3", "d1")
    *forked, record = await history(saver, "3")
    assert {each.checkpoint_id for each in forked} == {"a", "b", "c", "d", "d1"}
    assert record.operation is not None
    assert record.operation["checkpoint_id"] == "d1"


async def test_what_is_void_is_not_told(world: World) -> None:
    """Though its partition is still there."""
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


async def test_retention(log: Log) -> None:
    """What is void is not told; what was carried forward stands where it stood."""
    await log.grow("1", "1", "2", "3", days=10)
    await log.grow("1", "1", ns="sub")
    before = await history(log.saver)
    await log.saver.retain(timedelta(days=5))
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
    assert [bool(record.carried_at) for record in kept] == [True, True, False, False]
    carried_at = kept[0].carried_at
    assert carried_at is not None
    assert carried_at - kept[0].time > 9 * DAY
    assert await history(log.saver, newest_first=True) == found[::-1]
    await log.grow("1", "4")
    assert [r.checkpoint_id for r in await history(log.saver, after=found[-1])] == ["4", "4"]


# --- other serializers


KEY = b"0123456789abcdef"


@POOLS
async def test_encrypted(kind: str, new_database: Callable[[], str]) -> None:
    """With the key it is the same history; without it the error names the event."""
    uri = new_database()
    async with open_saver(kind, uri, serde=EncryptedSerializer.from_pycryptodome_aes(key=KEY)) as saver:
        await tangle(saver)
        encrypted = await history(saver)
    async with open_saver(kind, uri) as reader:
        with pytest.raises(LogCorruptedError, match=r"event 1 of thread '1'.*EncryptedSerializer"):
            await history(reader)
        await reader.adelete_thread("1")
        assert [record.kind for record in await history(reader)] == ["deleted"]
    async with open_saver(kind, new_database()) as saver:
        await tangle(saver)
        plain = await history(saver)
    for one, other in zip(encrypted, plain, strict=True):
        assert (one.channels, one.encoded_bytes, one.fork) == (other.channels, other.encoded_bytes, other.fork)
        assert one.stored_bytes > other.stored_bytes


class Json(JsonPlusSerializer):
    """Not msgpack: a list's count stands nowhere."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "plain", json.dumps(obj).encode()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        assert data[0] == "plain"
        return json.loads(data[1])


async def test_another_serializer(database_uri: str) -> None:
    """It cannot be told that items were appended, and is not guessed."""
    async with open_saver("sync-pool", database_uri, serde=Json()) as saver:
        await put(saver, config_of("1"), "a", {"x": [*TEXTS]}, metadata={"step": 3})
        await put(saver, config_of("1", "a"), "b", {"x": [*TEXTS, "more"]})
        records = await history(saver)
    assert [channels(record) for record in records] == [{"x": ("set", None, None)}, {"x": ("changed", None, None)}]
    assert records[0].step == 3


# --- bad input


async def test_unknown_threads(saver: Any) -> None:
    for options in ({}, {"newest_first": True}, {"checkpoint_ns": "sub"}, {"limit": 1}):
        with pytest.raises(ThreadNotFoundError, match="'never'"):
            await history(saver, "never", **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"limit": True}, "limit"),
        ({"checkpoint_ns": 1}, "checkpoint_ns"),
        ({"checkpoint_ns": "\0"}, "checkpoint_ns"),
        ({"newest_first": 1}, "newest_first"),
        ({"kinds": "writes"}, "kinds"),
        ({"kinds": ["write"]}, "kinds.*checkpoint, writes, deleted, erased, copied"),
        ({"kinds": 1}, "kinds"),
        ({"after": "nonsense"}, "cursor"),
        ({"after": "[]"}, "cursor"),
        ({"after": '["1", "2025-01-01T00:00:00", "", 1]'}, "cursor"),
        ({"after": '["1", "2025-01-01T00:00:00+00:00", "", "1"]'}, "cursor"),
        ({"after": '["2", "2025-01-01T00:00:00+00:00", "", 1]'}, "of thread '2', not of '1'"),
        ({"after": 1}, "cursor"),
        ({"thread_id": ""}, "thread_id"),
        ({"thread_id": None}, "thread_id"),
        ({"thread_id": "\0"}, "thread_id"),
    ],
)
@POOLS
async def test_bad_input(kind: str, options: dict[str, Any], says: str, database_uri: str) -> None:
    """Said at once, before anything is read."""
    async with open_saver(kind, database_uri) as saver:
        for method in (saver.history, saver.changes):
            with pytest.raises(InvalidInputError, match=says):
                _ = [each async for each in method(**{"thread_id": "1", **options})]


async def test_a_record_of_another_thread(saver: Any) -> None:
    await converse(saver, "1", ids="a")
    await converse(saver, "2", ids="a")
    record = (await history(saver, "2"))[0]
    with pytest.raises(InvalidInputError, match="of thread '2', not of '1'"):
        await history(saver, after=record)


async def test_damage_is_named(world: World) -> None:
    await converse(world.saver, ids="abc")
    for kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED):
        seq = world.tables.one("select max(seq) from {schema}.events where kind = %s", int(kind))
        world.tables.replace_body("events", "1", seq, b"\x01\xc1")
        with pytest.raises(LogCorruptedError, match=f"event {seq} of thread '1'"):
            await history(world.saver, kinds=["checkpoint" if kind == Kind.CHECKPOINT_SAVED else "writes"])
