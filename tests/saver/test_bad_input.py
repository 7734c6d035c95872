"""Bad input: an error that says what to do about it, and nothing in the database has changed."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventlog.errors import (
    EventTooLargeError,
    InvalidInputError,
    SerializationError,
)
from eventlog.streams import MAX_ID_BYTES
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, checkpoint_of, config_of, everywhere, listed, put, values_of

pytestmark = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])

NAN = float("nan")


@pytest.fixture
async def refused(saver: Any, database_uri: str) -> Callable[..., Any]:
    """`await refused(error, match, awaitable)`: it is raised, and all tables are as before."""
    await saver.aput_writes(await put(saver, config_of(), "1", {"x": [1]}), [("x", 1)], "task")
    tables = Tables(database_uri)
    before = tables.contents()

    async def check(error: Any, match: str, call: Awaitable[Any]) -> None:
        with pytest.raises(error, match=match):
            await call
        assert tables.contents() == before, "it was refused, and yet something was written"

    return check


# --- ids


CONFIGS: list[tuple[Any, str]] = [
    ({}, r'config must be \{"configurable": \{"thread_id"'),
    ({"configurable": None}, r'config must be \{"configurable": \{"thread_id"'),
    ({"configurable": {}}, "thread_id.* is missing"),
    (config_of(None), "thread_id.* is missing"),
    (config_of(""), "thread_id must not be empty"),
    (config_of("a\0b"), "thread_id must not contain NUL"),
    (config_of("a\ud800"), "thread_id must not contain lone surrogates"),
    (config_of(1.5), "thread_id must be a str, int or UUID, not float"),
    (config_of(True), "thread_id must be a str, int or UUID, not bool"),
    (config_of(b"bytes"), "thread_id must be a str, int or UUID, not bytes"),
    (config_of("1", "1", "a\0b"), "checkpoint_ns must not contain NUL"),
    (config_of("1", "1", "\udfff"), "checkpoint_ns must not contain lone surrogates"),
    (config_of("1", "1", 5), "checkpoint_ns must be a str, not int"),  # type: ignore[arg-type]
    (config_of("1", "a\0b"), "checkpoint_id must not contain NUL"),
    (config_of("1", "\ud800"), "checkpoint_id must not contain lone surrogates"),
    (config_of("1", ["1"]), "checkpoint_id must be a str, int or UUID, not list"),
]


async def test_bad_configs_are_refused_by_every_method(saver: Any, refused: Any) -> None:
    """Whatever method is given them. (To `list`, an empty config is none at all.)"""
    for config, match in CONFIGS:
        for number, call in enumerate(everywhere(saver, config)):
            if config == {} and number == 1:
                assert len(await call) == 1
            else:
                await refused(InvalidInputError, match, call)


async def test_bad_ids_in_arguments_and_checkpoints_are_refused(saver: Any, refused: Any) -> None:
    """Those that are arguments, or in the checkpoint."""
    for thread_id, match in (("", "must not be empty"), ("\0", "NUL"), (None, "not NoneType")):
        await refused(InvalidInputError, f"thread_id .*{match}", saver.adelete_thread(thread_id))
    for checkpoint_id, match in (("", "empty"), ("\0", "NUL"), ("\ud800", "surrogates"), (None, "not NoneType")):
        call = saver.aput(config_of(), checkpoint_of(checkpoint_id, {}, {}), {}, {})
        await refused(InvalidInputError, rf"checkpoint\['id'\] .*{match}", call)
    for task_id, match in (("", "empty"), (None, "not NoneType")):
        call = saver.aput_writes(config_of("1", "1"), [("x", 1)], task_id)
        await refused(InvalidInputError, f"task_id .*{match}", call)
    call = saver.aput_writes(config_of(), [("x", 1)], "task")
    await refused(InvalidInputError, "checkpoint_id.* is missing: writes belong to a checkpoint", call)
    for key in ("id", "channel_values", "channel_versions"):
        checkpoint: dict[str, Any] = {**checkpoint_of("2", {}, {})}
        del checkpoint[key]
        await refused(InvalidInputError, f"has no {key}", saver.aput(config_of(), checkpoint, {}, {}))


def text_of(size: int) -> str:
    """Random text of a size in bytes (PostgreSQL compresses index entries where it can), and a unique id."""
    return ("z" + os.urandom(size).hex())[:size]


@pytest.mark.parametrize(
    ("thread", "ns", "checkpoint"),
    [(MAX_ID_BYTES - 1, 0, 1), (1, MAX_ID_BYTES - 2, 1), (1, 0, MAX_ID_BYTES - 1), (867, 866, 867)],
)
async def test_ids_are_limited_together_in_bytes(
    saver: Any, refused: Any, thread: int, ns: int, checkpoint: int
) -> None:
    """The limit is on all three together, in bytes; at the limit everything works."""
    config = config_of(text_of(thread), text_of(checkpoint), text_of(ns))
    ids = config["configurable"]
    together = f"are {MAX_ID_BYTES + 1} bytes together; the limit is {MAX_ID_BYTES}"
    for longer in (
        config_of(ids["thread_id"], ids["checkpoint_id"], ids["checkpoint_ns"] + "x"),
        # A byte more, though no more characters.
        config_of(ids["thread_id"], ids["checkpoint_id"][:-1] + "ü", ids["checkpoint_ns"]),
    ):
        stream = {key: value for key, value in longer["configurable"].items() if key != "checkpoint_id"}
        put_call = put(saver, {"configurable": stream}, longer["configurable"]["checkpoint_id"])
        for call in (put_call, saver.aput_writes(longer, [("x", 1)], "task")):
            await refused(InvalidInputError, f"{together}|is {MAX_ID_BYTES + 1} bytes long", call)

    await saver.aput_writes(config, [("x", 1)], "task")
    stream = config_of(ids["thread_id"], ns=ids["checkpoint_ns"])
    stored = await put(saver, stream, ids["checkpoint_id"], {"x": 1}, metadata={"run_id": text_of(5000)})
    assert stored == config
    # Once more, so that every index of every table has seen it.
    await put(saver, stream, ids["checkpoint_id"], {"x": 2})
    found = await saver.aget_tuple(config)
    assert found.checkpoint["channel_values"] == {"x": 2}
    assert found.pending_writes == [("task", "x", 1)]
    assert await listed(saver, stream) == [found]
    await saver.adelete_thread(ids["thread_id"])
    assert await saver.aget_tuple(config) is None


async def test_a_single_id_over_the_limit_is_named(saver: Any, refused: Any) -> None:
    """An id that is too long by itself is named, in reads too."""
    size = MAX_ID_BYTES + 1
    for config, name in (
        (config_of("ü" * (size // 2) + "x"), "thread_id"),
        (config_of("1", "1", "x" * size), "checkpoint_ns"),
        (config_of("1", "x" * size), "checkpoint_id"),
    ):
        for call in everywhere(saver, config):
            await refused(InvalidInputError, f"{name} is {size} bytes long; the limit is {MAX_ID_BYTES}", call)


# --- what is listed


CRITERIA: list[tuple[dict[str, Any], str]] = [
    ({"limit": -1}, r"limit must not be negative \(got -1\)"),
    ({"limit": "2"}, "limit must be an int or None, not str"),
    ({"limit": 1.0}, "limit must be an int or None, not float"),
    ({"filter": {"x": NAN}}, "filter must be JSON:"),
    ({"filter": {"x": [float("inf")]}}, "filter must be JSON:"),
    ({"filter": {"x": object()}}, "filter must be JSON:"),
    ({"filter": {"x": {1}}}, "filter must be JSON:"),
    ({"filter": {"x": b"1"}}, "filter must be JSON:"),
    ({"filter": {"x": "a\ud800"}}, "filter must be"),
    ({"filter": {"x": ["a\0"]}}, "filter must be valid JSONB: no NUL"),
    ({"filter": {"x\0": 1}}, "filter must be valid JSONB: no NUL"),
    ({"filter": {(1, 2): 1}}, "filter must be JSON:"),
    ({"filter": ["x"]}, "filter must be a dict of metadata, not list"),
    ({"before": config_of("1")}, "before must name a checkpoint"),
    ({"before": {}}, "before must name a checkpoint"),
    ({"before": config_of("1", "\0")}, "checkpoint_id must not contain NUL"),
]


async def test_bad_list_criteria_are_refused(saver: Any, refused: Any) -> None:
    """Limits, filters and what to list before."""
    for criteria, match in CRITERIA:
        await refused(InvalidInputError, match, listed(saver, None, **criteria))


async def test_a_filter_that_contains_itself_is_refused(saver: Any, refused: Any) -> None:
    endless: dict[str, Any] = {}
    endless["x"] = endless
    await refused(InvalidInputError, "filter must be JSON:", listed(saver, None, filter=endless))


async def test_a_str_as_channels_of_a_history_is_refused(saver: Any, refused: Any) -> None:
    """A single name is a sequence of names, of one character each."""
    call = saver.aget_delta_channel_history(config=config_of(), channels="messages")
    await refused(InvalidInputError, "channels must be a sequence of channel names, not a str", call)


# --- values


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [object(), {"x": {"y": open}}, ENDLESS, DEEP, [7**9000]],
    ids=["object", "function", "endless", "deep", "digits"],
)
async def test_a_value_that_the_serializer_refuses_is_named(saver: Any, refused: Any, value: Any) -> None:
    """The error says which value it was."""
    parent = config_of("1", "1")
    await refused(
        SerializationError,
        "the serializer refused the value of channel 'bad'",
        put(saver, parent, "2", {"good": 1, "bad": value}),
    )
    await refused(
        SerializationError,
        "the serializer refused the write to channel 'bad'",
        saver.aput_writes(parent, [("good", 1), ("bad", value)], "task"),
    )
    await refused(
        SerializationError,
        "the serializer refused the checkpoint's metadata",
        put(saver, parent, "2", metadata={"good": 1, "bad": value}),
    )
    await refused(
        SerializationError, "the serializer refused the checkpoint's own fields", put(saver, parent, "2", extra=value)
    )


# What is accepted must be readable: otherwise one bad call spoils the thread for every later read.


@pytest.mark.attack("application bug")
async def test_versions_that_could_not_be_read_back_are_refused(saver: Any, refused: Any) -> None:
    """Versions are text or numbers."""
    for version in (None, True, [1], b"1", (1,), 2**70, "\ud800"):
        for versions, seen in (({"x": version}, {}), ({"x": "2"}, {"node": {"x": version}})):
            call = put(saver, config_of("1", "1"), "2", {"x": 1}, versions=versions, versions_seen=seen)
            await refused((InvalidInputError, SerializationError), "version", call)


async def test_writes_that_could_not_be_read_back_are_refused(saver: Any, refused: Any) -> None:
    """Channel names and task paths are text."""
    for channel, path in ((1, ""), (None, ""), (b"x", ""), ("\ud800", ""), ("x", None), ("x", b"p"), ("x", ("p",))):
        call = saver.aput_writes(config_of("1", "1"), [(channel, 1)], "task", path)
        await refused((InvalidInputError, SerializationError), r"channel|task_path|names", call)


async def test_channel_and_node_names_that_are_not_text_are_refused(saver: Any, refused: Any) -> None:
    """Nor are checkpoints' channels and nodes anything but text."""
    for name in (1, None, "\ud800"):
        call = put(saver, config_of("1", "1"), "2", {name: 1})
        await refused((InvalidInputError, SerializationError), r"names|channel", call)
        call = put(saver, config_of("1", "1"), "2", {}, versions_seen={name: {}})
        await refused((InvalidInputError, SerializationError), r"names|node", call)


# --- sizes


@pytest.mark.attack("application bug")
async def test_bodies_over_the_limit_are_refused(kind: str, database_uri: str) -> None:
    """The limit holds to the byte, before compression; the error says how to raise it."""
    tables = Tables(database_uri)
    limit = 4096
    async with open_saver(kind, database_uri, max_body_bytes=limit) as saver:
        parent = await put(saver, config_of(), "1", {"x": 1})
        before = tables.contents()
        says = rf"is (\d+) bytes; max_body_bytes is {limit}. Raise the setting"
        with pytest.raises(EventTooLargeError, match=f"the checkpoint {says}") as put_error:
            await put(saver, parent, "2", {"x": b"0" * 5000})
        with pytest.raises(EventTooLargeError, match=f"the writes {says}") as writes_error:
            await saver.aput_writes(parent, [("x", b"0" * 5000)], "task")
        assert tables.contents() == before

        for error, call in (
            (put_error, lambda size: put(saver, parent, "2", {"x": b"0" * size})),
            (writes_error, lambda size: saver.aput_writes(parent, [("x", b"0" * size)], "task")),
        ):
            found = re.search(says, str(error.value))
            assert found is not None
            largest = 5000 - (int(found[1]) - limit)
            with pytest.raises(EventTooLargeError):
                await call(largest + 1)
            await call(largest)
        # What may be written may be read.
        read = await saver.aget_tuple(config_of())
        assert set(read.checkpoint["channel_values"]["x"]) == {ord("0")}
        assert len(await listed(saver, config_of())) == 2
        assert len((await saver.aget_tuple(parent)).pending_writes) == 1


async def test_arguments_of_the_wrong_kind_are_refused(saver: Any, refused: Any) -> None:
    """None where a dict belongs."""
    good = {"id": "1", "channel_values": {}, "channel_versions": {}}
    for arguments in ((None, {}, {}), (good, None, {}), (good, {}, None)):
        await refused(InvalidInputError, "must be a dict", saver.aput(config_of("1"), *arguments))


async def test_a_state_beyond_the_limit_gets_no_snapshot(kind: str, database_uri: str) -> None:
    """Its events fit, so the puts go on."""
    tables = Tables(database_uri)
    snapshots = "select coalesce(max(seq), 0) from {schema}.snapshots"
    async with open_saver(kind, database_uri, max_body_bytes=8192, snapshot_floor_bytes=0) as saver:
        config, values, versions = config_of("1"), {}, {}
        for number in range(30):
            # Ten small changes, then three channels that are too much together, then small changes again.
            channel = f"c{number}" if number in (0, 10, 11, 12) else "small"
            values[channel] = f"{number:04}" * (800 if channel != "small" else 1)
            versions[channel] = f"{number}"
            new = {channel: f"{number}"}
            config = await put(saver, config, f"{number:02}", dict(values), versions=dict(versions), new=new)
            if number == 9:
                assert tables.one(snapshots) > 0
        assert await values_of(saver, config) == values
    assert tables.events() == 30
    assert tables.one(snapshots) < 12
