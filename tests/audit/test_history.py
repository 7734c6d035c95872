"""The history of a thread: one record for each event, in order, told without decoding states."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from eventlog.events import Kind
from langgraph.checkpoint.eventlog import ChannelChange, HistoryEntry
from tests.support.adapters import POOLS, LogUnderTest, open_log_under_test, open_saver
from tests.support.checkpoints import TEXTS, config_of, converse, put, tangle


async def history(saver: Any, thread_id: Any = "1", **options: Any) -> list[HistoryEntry]:
    return [record async for record in saver.log.history(thread_id, **options)]


@pytest.fixture
async def world(kind: str, database_uri: str) -> AsyncIterator[LogUnderTest]:
    async with open_log_under_test(kind, database_uri) as opened:
        yield opened


def channels(record: HistoryEntry) -> dict[str, tuple[str, int | None, int | None]]:
    return {each.channel: (each.what, each.items, each.length) for each in record.channels}


def of(records: list[HistoryEntry], kind: str) -> list[HistoryEntry]:
    return [record for record in records if record.kind == kind]


# --- what a record says


async def test_history_lists_each_steps_channels_writes_and_sizes(saver: Any) -> None:
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
    assert not any(r.fork or r.repeat or r.relocated_at or r.operation for r in records)


async def test_records_convert_to_json(saver: Any) -> None:
    """For a machine: as JSON, but for times."""
    await tangle(saver)
    for record in await history(saver):
        document = json.loads(json.dumps(asdict(record), default=lambda at: at.isoformat()))
        assert document["channels"][0]["channel"]
        assert document["time"]


async def test_positions_and_sizes_equal_those_in_the_log(world: LogUnderTest) -> None:
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
async def test_history_decodes_nothing_but_metadata(kind: str, database_uri: str) -> None:
    async with open_log_under_test(kind, database_uri) as world:
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
async def test_appended_items_are_counted_for_any_header_size(before: int, after: int, saver: Any) -> None:
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
async def test_other_list_changes_are_not_reported_as_appends(before: Any, after: Any, saver: Any) -> None:
    parent = await put(saver, config_of("1"), "a", {"x": before})
    await put(saver, parent, "b", {"x": after})
    _, record = await history(saver)
    (change,) = record.channels
    assert change.what in ("set", "changed")
    assert change.items is None
    assert change.length == (len(after) if isinstance(after, list) else None)


async def test_forks_and_repeats_are_marked(saver: Any) -> None:
    await tangle(saver)
    records = of(await history(saver), "checkpoint")
    assert [(r.checkpoint_id, r.fork, r.repeat) for r in records[8:]] == [
        ("d", False, True),
        ("h", False, True),
        ("d1", True, False),
        ("d2", False, False),
    ]
    assert not any(r.fork or r.repeat for r in records[:8])


async def test_a_replaced_checkpoint_is_listed_under_each_of_its_parents(saver: Any) -> None:
    """Each event is told as what it was, though the projection has only the last."""
    for id_, parent in (("a", None), ("b", "a"), ("c", "a"), ("d", "a"), ("c", "b"), ("e", "b")):
        await put(saver, config_of("1", parent), id_, {"x": f"{id_} under {parent}"})
    records = await history(saver)
    assert [r.checkpoint_id for r in records if r.fork] == ["c", "d", "e"]
    assert [(r.checkpoint_id, r.parent_id) for r in records if r.repeat] == [("c", "b")]


async def test_writes_put_again_are_marked_as_repeats(saver: Any) -> None:
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


# --- other serializers


KEY = b"0123456789abcdef"


@POOLS
async def test_history_of_an_encrypted_log_needs_its_key(kind: str, new_database: Callable[[], str]) -> None:
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


async def test_appends_are_not_guessed_with_another_serializer(database_uri: str) -> None:
    """It cannot be told that items were appended, and is not guessed."""
    async with open_saver("sync-pool", database_uri, serde=Json()) as saver:
        await put(saver, config_of("1"), "a", {"x": [*TEXTS]}, metadata={"step": 3})
        await put(saver, config_of("1", "a"), "b", {"x": [*TEXTS, "more"]})
        records = await history(saver)
    assert [channels(record) for record in records] == [{"x": ("set", None, None)}, {"x": ("changed", None, None)}]
    assert records[0].step == 3


# --- bad input


async def test_an_unknown_thread_is_not_found(saver: Any) -> None:
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
        ({"after": '["1", "2025-01-01T00:00:00+00:00", "\\ud800", 1]'}, "cursor.*surrogates"),
        ({"after": '["1", "2025-01-01T00:00:00+00:00", "\\u0000", 1]'}, "cursor.*NUL"),
        ({"after": f'["1", "2025-01-01T00:00:00+00:00", "", {2**63}]'}, "cursor"),
        ({"after": "[" * 100_000}, "cursor"),
        ({"kinds": [["writes"]]}, "kinds"),
        ({"kinds": [{}]}, "kinds"),
        ({"thread_id": ""}, "thread_id"),
        ({"thread_id": None}, "thread_id"),
        ({"thread_id": "\0"}, "thread_id"),
    ],
)
@POOLS
async def test_bad_arguments_are_refused_before_anything_is_read(
    kind: str, options: dict[str, Any], says: str, database_uri: str
) -> None:
    async with open_saver(kind, database_uri) as saver:
        for method in (saver.log.history, saver.log.changes):
            with pytest.raises(InvalidInputError, match=says):
                _ = [each async for each in method(**{"thread_id": "1", **options})]


async def test_a_record_of_another_thread_is_refused_as_after(saver: Any) -> None:
    await converse(saver, "1", ids="a")
    await converse(saver, "2", ids="a")
    record = (await history(saver, "2"))[0]
    with pytest.raises(InvalidInputError, match="of thread '2', not of '1'"):
        await history(saver, after=record)


async def test_a_damaged_event_is_named_in_the_error(world: LogUnderTest) -> None:
    await converse(world.saver, ids="abc")
    for kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED):
        seq = world.tables.one("select max(seq) from {schema}.events where kind = %s", int(kind))
        world.tables.replace_body("events", "1", seq, b"\x01\xc1")
        with pytest.raises(LogCorruptedError, match=f"event {seq} of thread '1'"):
            await history(world.saver, kinds=["checkpoint" if kind == Kind.CHECKPOINT_SAVED else "writes"])
