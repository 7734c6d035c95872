"""Stored bodies that do not decode: the error names the event, and other threads are unaffected."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import ormsgpack
import pytest
import zstandard

from eventlog.errors import EventTooLargeError, LogCorruptedError
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, listed, listed_ids, put, values_of

pytestmark = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])

KIB, MIB = 1024, 1024 * 1024
LARGE = [f"{number:x}" for number in range(3000)]

# What a body looks like: eventlog/format/codec.py. Format bytes: plain, and compressed.
PLAIN, COMPRESSED = b"\x01", b"\x11"


@pytest.fixture
def tables(database_uri: str) -> Tables:
    return Tables(database_uri)


@pytest.fixture
async def threads(kind: str, database_uri: str) -> None:
    """Threads 'bad' and 'good', alike: events 1 and 3 are checkpoints, event 2 is writes."""
    async with open_saver(kind, database_uri) as saver:
        for thread_id in ("bad", "good"):
            first = await put(saver, config_of(thread_id), "1", {"x": LARGE, "y": 1})
            await saver.aput_writes(first, [("x", 1)], "task")
            await put(saver, first, "2", {"y": 2}, versions={"x": "1", "y": "2"}, new={"y": "2"})


@pytest.fixture
async def reader(kind: str, threads: None, database_uri: str) -> AsyncIterator[Any]:
    """A saver that has nothing in its cache, nor keeps anything."""
    async with open_saver(kind, database_uri, state_cache_bytes=0) as saver:
        yield saver


async def check(saver: Any, tables: Tables, event: int, says: str = "does not decode") -> None:
    """Reading what needs the event fails, naming it; the rest is as it was."""
    where = rf"event {event} of thread 'bad', namespace '', {says}"
    # Event 3 is a difference from event 1; event 2 belongs to the first checkpoint.
    broken, fine = {1: ("12", ""), 2: ("1", "2"), 3: ("2", "1")}[event]
    before = tables.contents()
    for checkpoint_id in broken:
        with pytest.raises(LogCorruptedError, match=where):
            await saver.aget_tuple(config_of("bad", checkpoint_id))
        with pytest.raises(LogCorruptedError, match=where):
            await listed(saver, config_of("bad", checkpoint_id))
    for checkpoint_id in fine:
        assert (await values_of(saver, config_of("bad", checkpoint_id)))["x"] == LARGE
    with pytest.raises(LogCorruptedError, match=where):
        await listed(saver, config_of("bad"))
    if "2" in broken:
        # A child that would have to build on it, or to inherit from it.
        with pytest.raises(LogCorruptedError, match=where):
            await put(saver, config_of("bad", "2"), "3", {"x": LARGE}, versions={"x": "3", "y": "2"}, new={"x": "3"})
    assert tables.contents() == before

    assert await values_of(saver, config_of("good")) == {"x": LARGE, "y": 2}
    assert (await saver.aget_tuple(config_of("good", "1"))).pending_writes == [("task", "x", 1)]
    assert await listed_ids(saver, config_of("good")) == ["2", "1"]


def checkpoint_body(channels: Any = None, **replaced: Any) -> bytes:
    """A self-contained checkpoint event, with something replaced."""
    content = {
        "parent": None,
        "fields": ["msgpack", ormsgpack.packb({"v": 4, "ts": "t"})],
        "metadata": ["msgpack", ormsgpack.packb({})],
        "versions": [{"x": "1"}, []],
        "seen": [{}, []],
        "channels": {"x": [0, "msgpack", ormsgpack.packb([1])]} if channels is None else channels,
        "salt": bytes(16),
        **replaced,
    }
    return PLAIN + ormsgpack.packb(list(content.values()))


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda body: b"",
    "format byte alone": lambda body: body[:1],
    "cut": lambda body: body[:-1],
    "longer": lambda body: body + b"\0",
    "version 0": lambda body: b"\0" + body[1:],
    "unknown flag": lambda body: bytes([body[0] | 0x80]) + body[1:],
    "dictionary of what is not compressed": lambda body: b"\x41" + body[1:],
    "not encrypted": lambda body: bytes([body[0] | 0x20]) + body[1:],
    "compressed it is not": lambda body: COMPRESSED + b"\x93\0\0\0",
    "written by the database": lambda body: b"\x02" + b'{"events": 1}',
    "another kind of event": lambda body: PLAIN + ormsgpack.packb([{"x": "1"}, {}, {}]),
    "no container": lambda body: PLAIN + ormsgpack.packb(5),
    "nested without end": lambda body: PLAIN + b"\x91" * 100_000,
    "huge array": lambda body: PLAIN + b"\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("event", [1, 2, 3])
async def test_a_damaged_body_is_named(reader: Any, tables: Tables, event: int) -> None:
    body = tables.one("select body from {schema}.events where thread_id = 'bad' and seq = %s", event)
    for broken in BROKEN.values():
        tables.replace_body("events", "bad", event, broken(body))
        await check(reader, tables, event)
    tables.replace_body("events", "bad", event, body)
    assert await values_of(reader, config_of("bad")) == {"x": LARGE, "y": 2}


async def test_a_body_with_impossible_content_is_named(reader: Any, tables: Tables) -> None:
    """Bodies that are well-formed and say something impossible."""
    tables.replace_body("events", "bad", 1, checkpoint_body())
    assert await values_of(reader, config_of("bad", "1")) == {"x": [1]}

    for body in (
        checkpoint_body(parent=5),
        checkpoint_body(fields=["msgpack", "text"]),
        checkpoint_body(metadata=None),
        checkpoint_body(versions=[{"x": None}, []]),
        checkpoint_body(versions=[["x"], []]),
        checkpoint_body(versions=[{}, [1]]),
        checkpoint_body(seen=[{"node": {"x": "1"}}, []]),
        checkpoint_body(channels={"x": 5}),
        checkpoint_body(channels=[]),
        checkpoint_body(channels={"x": []}),
        checkpoint_body(channels={"x": [9, "msgpack", b""]}),
        checkpoint_body(channels={"x": [0, "msgpack", "text"]}),
    ):
        tables.replace_body("events", "bad", 1, body)
        await check(reader, tables, 1)
    for body in (
        # Nothing comes before a self-contained event: there is nothing to take from.
        checkpoint_body(channels={"x": [1, "msgpack", b"", 0, 1, b"", 0]}),
        checkpoint_body(channels={"x": [2, "msgpack", zstandard.compress(b"x" * 100)]}),
        checkpoint_body(versions=[{}, ["not there"]]),
        checkpoint_body(seen=[{}, ["not there"]]),
    ):
        tables.replace_body("events", "bad", 1, body)
        await check(reader, tables, 1, "does not fit its base")


async def test_a_splice_beyond_its_base_is_refused(reader: Any, tables: Tables) -> None:
    """A splice reaches only as far as its base does."""
    for splice in ([0, 10**9, b"", 0], [-1, 5, b"", 0], [0, 1, b"", 10**6], [10**6, 1, b"", 1], [0, -5, b"x", 5]):
        body = checkpoint_body(channels={"x": [1, "msgpack", b"", *splice]}, parent="1")
        tables.replace_body("events", "bad", 3, body)
        says = "does not decode" if min(splice[0], splice[1]) < 0 else "does not fit its base"
        await check(reader, tables, 3, says)


def frame_of(claimed: int) -> bytes:
    """A zstd frame that holds nothing and says that it will decompress to so much."""
    magic, single_segment_and_8_byte_size, last_empty_block = b"\x28\xb5\x2f\xfd", b"\xe0", b"\x01\0\0"
    return magic + single_segment_and_8_byte_size + claimed.to_bytes(8, "little") + last_empty_block


def without_size(data: bytes) -> bytes:
    """A zstd frame that does not say what it will decompress to."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


@pytest.mark.attack("hostile content")
@pytest.mark.parametrize("where", ["body", "patch"])
async def test_decompression_is_bounded_before_memory_is_taken(
    kind: str, where: str, threads: None, tables: Tables, database_uri: str
) -> None:
    """What a frame may become is bounded by `max_body_bytes`, before any memory is taken."""
    bombs = {
        "a real one": zstandard.compress(b"\0" * (64 * MIB)),
        "one byte too many": zstandard.compress(b"\0" * (MIB + 1)),
        "claims an exabyte": frame_of(2**60),
        "claims as much as it can": frame_of(2**64 - 3),
        "does not say": without_size(b"\0" * (64 * MIB)),
        "says less than it is": frame_of(MIB)[:-3] + zstandard.compress(b"\0" * (64 * MIB))[-40:],
    }
    async with open_saver(kind, database_uri, state_cache_bytes=0, max_body_bytes=MIB) as saver:
        for name, bomb in bombs.items():
            if where == "body":
                event, body, says = 1, COMPRESSED + bomb, "does not decode"
            else:
                body = checkpoint_body(channels={"x": [2, "bytes", bomb]}, parent="1")
                event, says = 3, "does not fit its base"
            tables.replace_body("events", "bad", event, body)
            # zstandard takes its memory from Python, where it shows.
            tracemalloc.start()
            try:
                await check(saver, tables, event, says)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 8 * MIB, name

        # Within the limit it is no bomb.
        if where == "body":
            frame = zstandard.compress(checkpoint_body({"x": [0, "bytes", b"\0" * (MIB - KIB)]})[1:])
            tables.replace_body("events", "bad", 1, COMPRESSED + frame)
            assert await values_of(saver, config_of("bad", "1")) == {"x": b"\0" * (MIB - KIB)}
        else:
            frame = zstandard.compress(b"\0" * MIB)
            tables.replace_body("events", "bad", 3, checkpoint_body({"x": [2, "bytes", frame]}, parent="1"))
            assert (await values_of(saver, config_of("bad")))["x"] == b"\0" * MIB


async def test_a_damaged_snapshot_is_named_by_its_event(kind: str, database_uri: str, tables: Tables) -> None:
    """A snapshot that does not decode is named by its event; the log behind it is whole."""
    async with open_saver(kind, database_uri, snapshot_floor_bytes=0) as saver:
        for thread_id in ("bad", "good"):
            config = config_of(thread_id)
            for number in range(12):
                config = await put(saver, config, f"{number:02}", {"x": list(range(1000, 1500 + number))})
    snapshots = tables.rows("select seq, body from {schema}.snapshots where thread_id = 'bad' order by seq")
    assert snapshots, "the test needs one"
    for seq, body in snapshots:
        tables.replace_body("snapshots", "bad", seq, body[:-1])

    async with open_saver(kind, database_uri, state_cache_bytes=0) as saver:
        where = r"the snapshot at event \d+ of thread 'bad', namespace '', does not decode"
        with pytest.raises(LogCorruptedError, match=where):
            await values_of(saver, config_of("bad"))
        with pytest.raises(LogCorruptedError, match=where):
            await listed(saver, config_of("bad"))
        assert await values_of(saver, config_of("bad", "00")) == {"x": list(range(1000, 1500))}
        assert await values_of(saver, config_of("good")) == {"x": list(range(1000, 1511))}

        # Snapshots are an optimisation: without them the same is read.
        tables.run("delete from {schema}.snapshots where thread_id = 'bad'")
        assert await values_of(saver, config_of("bad")) == {"x": list(range(1000, 1511))}
        assert len(await listed(saver, config_of("bad"))) == 12


async def test_a_missing_base_event_is_named(reader: Any, tables: Tables) -> None:
    """An event that is gone without having been erased."""
    tables.run(
        "set session_replication_role = replica",
        "delete from {schema}.events where thread_id = 'bad' and seq = 1",
    )

    says = "event 3 of thread 'bad', namespace '', builds on event 1, which is missing"
    with pytest.raises(LogCorruptedError, match=says):
        await reader.aget_tuple(config_of("bad"))
    with pytest.raises(LogCorruptedError, match=says):
        await listed(reader, config_of("bad", "2"))
    assert await values_of(reader, config_of("good")) == {"x": LARGE, "y": 2}


async def test_a_missing_checkpoint_event_is_named(reader: Any, tables: Tables) -> None:
    """The same for the checkpoint's own event."""
    tables.run(
        "set session_replication_role = replica",
        "delete from {schema}.events where thread_id = 'bad' and seq = 3",
    )

    for checkpoint_id in (None, "2"):
        with pytest.raises(LogCorruptedError, match=r"event 3 of thread 'bad'.* missing"):
            await reader.aget_tuple(config_of("bad", checkpoint_id))
    with pytest.raises(LogCorruptedError, match=r"event 3 of thread 'bad'.* missing"):
        await listed(reader, config_of("bad"))
    assert (await values_of(reader, config_of("bad", "1")))["y"] == 1
    assert await values_of(reader, config_of("good")) == {"x": LARGE, "y": 2}


@pytest.mark.parametrize("type_", ["msgpack", "json", "mszpack", "eventlog.int"])
async def test_a_value_that_does_not_deserialize_is_named(reader: Any, tables: Tables, type_: str) -> None:
    """A body that is whole, with a value in it that its serializer makes nothing of: also then the event is named."""
    where = r"event 1 of thread 'bad', namespace '',"
    broken = [type_, b"\xdc\xff\xff\xff\x91"]
    for replaced, what in (
        ({"fields": broken}, ""),
        ({"fields": ["msgpack", ormsgpack.packb([1])]}, ""),
        ({"fields": ["msgpack", ormsgpack.packb({"v": "4"})]}, ""),
        ({"metadata": broken}, ""),
        ({"channels": {"x": [0, *broken]}}, " channel 'x',"),
    ):
        tables.replace_body("events", "bad", 1, checkpoint_body(**replaced))  # type: ignore[arg-type]
        with pytest.raises(LogCorruptedError, match=f"{where}{what} does not decode"):
            await reader.aget_tuple(config_of("bad", "1"))
        with pytest.raises(LogCorruptedError, match=f"{where}{what} does not decode"):
            await listed(reader, config_of("bad", "1"))
    says = f"{where} channel 'x', does not decode"
    with pytest.raises(LogCorruptedError, match=says):
        [each async for each in reader.log.changes("bad")]
    inspected = await reader.log.inspect(config_of("bad", "1"))
    with pytest.raises(LogCorruptedError, match=f"{where} does not decode"):
        inspected.load(inspected.channels["x"].value)
    # What it says of itself can be told all the same.
    assert len([each async for each in reader.log.history("bad")]) == 3
    body = PLAIN + ormsgpack.packb(["task", "", [[0, "z", [0, *broken]]], bytes(16)])
    tables.replace_body("events", "bad", 2, body)
    tables.replace_body("events", "bad", 1, checkpoint_body())
    with pytest.raises(LogCorruptedError, match="event 2 of thread 'bad', namespace '', channel 'z', does not decode"):
        await reader.aget_tuple(config_of("bad", "1"))
    assert await values_of(reader, config_of("good")) == {"x": LARGE, "y": 2}


async def test_a_value_that_could_not_be_read_back_is_refused(kind: str, database_uri: str) -> None:
    """A value that grew beyond `max_body_bytes` is refused as soon as it would have to be stored otherwise.

    It was stored as a patch once, which no reader would decompress.
    """
    noise = random.Random(1)
    async with open_saver(kind, database_uri, max_body_bytes=MIB) as saver:
        value = noise.randbytes(900 * KIB)
        config = await put(saver, config_of("1"), "1", {"x": value})
        value += noise.randbytes(300 * KIB)
        config = await put(saver, config, "2", {"x": value})
        everywhere = bytearray(value)
        for place in range(0, len(value), 20_000):
            everywhere[place : place + 5] = noise.randbytes(6)
        with pytest.raises(EventTooLargeError, match="Raise the setting"):
            await put(saver, config, "3", {"x": bytes(everywhere)})
        await put(saver, config, "4", {"x": value + b"more"})
    async with open_saver(kind, database_uri, max_body_bytes=MIB, state_cache_bytes=0) as saver:
        assert [len(each.checkpoint["channel_values"]["x"]) for each in await listed(saver, config_of("1"))] == [
            *(len(value) + 4, len(value), 900 * KIB)
        ]


@pytest.mark.attack("hostile content")
async def test_patches_of_one_event_are_bounded_together(
    kind: str, threads: None, tables: Tables, database_uri: str
) -> None:
    """What all of them decompress to is bounded, and not only each."""
    frame = zstandard.compress(b"\0" * (MIB // 2))
    async with open_saver(kind, database_uri, state_cache_bytes=0, max_body_bytes=MIB) as saver:
        channels = {"x": [2, "bytes", frame], "y": [2, "bytes", frame]}
        tables.replace_body("events", "bad", 3, checkpoint_body(channels, parent="1"))
        assert (await values_of(saver, config_of("bad")))["y"] == b"\0" * (MIB // 2)
        channels = {**channels, "z": [4, "x", [2, "bytes", frame]]}
        tables.replace_body("events", "bad", 3, checkpoint_body(channels, parent="1"))
        await check(saver, tables, 3)


async def test_a_damaged_difference_from_another_channel_is_named_when_decoded(reader: Any, tables: Tables) -> None:
    """A difference from another channel is worked out when it is wanted: it is its event that is named then."""
    far = [4, "x", [1, "msgpack", b"", 0, 10**9, b"", 0]]
    tables.replace_body("events", "bad", 3, checkpoint_body({"sent": far}, parent="1"))
    await put(reader, config_of("bad", "1"), "3", {"x": LARGE, "y": 3})
    tables.run(
        "set session_replication_role = replica",
        "update {schema}.events set base_seq = 3 where thread_id = 'bad' and seq = 4",
        "update {schema}.checkpoints set keyframe_seq = 1 where thread_id = 'bad' and seq = 4",
    )
    body = checkpoint_body({"y": [0, "msgpack", ormsgpack.packb(3)]}, parent="2")
    tables.replace_body("events", "bad", 4, body)
    with pytest.raises(LogCorruptedError, match="event 3 of thread 'bad', namespace '', does not fit its base"):
        await reader.aget_tuple(config_of("bad", "3"))
