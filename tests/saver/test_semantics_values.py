"""What a checkpointer promises to LangGraph: the values of channels."""

from __future__ import annotations

import dataclasses
import decimal
import enum
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Interrupt, Send
from pydantic import BaseModel

from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, exactly, listed, put, values_of

pytestmark = pytest.mark.portable


class Model(BaseModel):
    text: str
    numbers: list[float] = []


@dataclasses.dataclass
class Data:
    name: str
    inner: Model | None = None


class Pair(NamedTuple):
    left: int
    right: str


class Mode(enum.Enum):
    RED = "red"


VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "smallest of 64 bits": -(2**63),
    "largest of 64 bits": 2**64 - 1,
    "big": 2**64,
    "big and negative": -(2**63) - 1,
    # Python refuses to write so many digits in decimal.
    "huge": 7**9000,
    "big in a list": [2**64, {"a": -(10**40)}],
    "float": 0.1,
    "whole float": 1.0,
    "negative zero": -0.0,
    "tiny": 5e-324,
    "nan": float("nan"),
    "infinite": float("inf"),
    "negative infinite": -float("inf"),
    "text": "grün 🦜",
    "empty text": "",
    "nul": "a\0b\0",
    "lone surrogates": "\ud800 and \udfff, ü too",
    "lone surrogates in a list": {"l": ["a\ud800b", "why?"], "k\udfff": {1: ["\ud83d\ude00", b"?"]}},
    "lone surrogates in objects": [
        AIMessage("half of a \ud83d?", tool_calls=[{"name": "f", "args": {"a": ["\udc00"]}, "id": "c"}], id="1"),
        Model(text="\ud800 and \U0010fffe, and what stands for it: \U0010fffe\ue000"),
        Data("\ud800?", Model(text="inner \udfff")),
        Pair(1, "\ud800?"),
        Send("node", {"x": "\ud800?"}),
        {"\ud800?"},
        Path("/tmp/caf\udce9?"),
    ],
    "lone surrogates in a delta snapshot": _DeltaSnapshot([HumanMessage("\ud800?", id="1")]),
    "the escape alone": ["\U0010fffe.?", "\U0010fffe\ue000"],
    "nul in a list": ["\0", {"\0": "\0"}],
    "escapes": "\\u0000 \\ud800 \" ' %s {}",
    "bytes": b"\0\xff",
    "no bytes": b"",
    "bytearray": bytearray(b"\0\xfe"),
    "list": [1, [2.0, [None, b"x", float("nan")]]],
    "dict": {"b": 1, "a": {"z": float("-inf")}},
    "dict with other keys": {1: "one", None: "none", 2.5: "float", (1, "a"): "pair"},
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "datetime": datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-9.5))),
    "naive datetime": datetime(1, 1, 1),
    "date": date(9999, 12, 31),
    "timedelta": timedelta(days=-1, microseconds=1),
    "uuid": UUID(int=2**128 - 1),
    "decimal": decimal.Decimal("-1.2300"),
    "enum": Mode.RED,
    "pydantic": Model(text="t\0", numbers=[float("inf")]),
    "dataclass": Data("d", Model(text="inner")),
    "named tuple": Pair(1, "\0"),
    "messages": [
        HumanMessage("hi", id="1"),
        AIMessage("", tool_calls=[{"name": "f", "args": {"a": [1]}, "id": "c"}], id="2"),
        ToolMessage("r" * 500, tool_call_id="c", id="3"),
    ],
    "send": Send("node", {"x": Model(text="sent")}),
    "interrupt": [Interrupt("question", id="i")],
    "delta snapshot": _DeltaSnapshot([HumanMessage("kept", id="1"), {"n": 1}]),
    "large": list(range(50_000)),
    "ext name": {"eventlog.int": "0x1"},
}


async def test_values_arrive_as_given(saver: Any, kind: str, database_uri: str) -> None:
    """Read by the saver that wrote them, by another, listed, inherited, and as writes."""
    first = await put(saver, config_of(), "1", VALUES)
    child = await put(saver, first, "2", {"x": 1}, versions={**dict.fromkeys(VALUES, "1"), "x": "2"}, new={"x": "2"})
    await saver.aput_writes(child, list(VALUES.items()), "task")

    async with open_saver(kind, database_uri) as other:
        for reader in (saver, other):
            for found in (
                await reader.aget_tuple(first),
                await reader.aget_tuple(child),
                *await listed(reader, config_of()),
            ):
                values = found.checkpoint["channel_values"]
                assert values.keys() - {"x"} == VALUES.keys()
                for name, value in VALUES.items():
                    assert exactly(values[name], value), name
            for (_, channel, value), name in zip((await reader.aget_tuple(child)).pending_writes, VALUES, strict=True):
                assert channel == name
                assert exactly(value, VALUES[name]), name


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_values_that_change_type_are_returned_exactly(saver: Any, kind: str, database_uri: str) -> None:
    """Each replaces the one before it in the same channel, so that each is a difference once."""
    config = config_of()
    configs = []
    for number, value in enumerate(VALUES.values()):
        config = await put(saver, config, f"{number:03}", {"x": value, "same": [1] * 50})
        configs.append(config)

    async with open_saver(kind, database_uri, state_cache_bytes=0) as other:
        for stored, (name, value) in zip(configs, VALUES.items(), strict=True):
            assert exactly((await values_of(other, stored))["x"], value), name
        found = await listed(other, config_of())
    for one, value in zip(reversed(found), VALUES.values(), strict=True):
        assert exactly(one.checkpoint["channel_values"]["x"], value)


async def test_changing_a_returned_value_changes_nothing_stored(saver: Any) -> None:
    """Changing a value that was put, or that was read, changes nothing that is stored."""
    given = {"list": [1], "dict": {"a": [1]}}
    metadata = {"tags": ["x"]}
    stored = await put(saver, config_of(), "1", given, metadata=metadata)
    given["list"].append(2)  # type: ignore[attr-defined]
    metadata["tags"].append("y")

    for _ in range(2):
        found = await saver.aget_tuple(stored)
        assert found.checkpoint["channel_values"] == {"list": [1], "dict": {"a": [1]}}
        assert found.checkpoint["channel_versions"] == {"list": "1", "dict": "1"}
        assert found.metadata == {"tags": ["x"]}
        found.checkpoint["channel_values"]["dict"]["a"].append(3)
        found.checkpoint["channel_values"]["new"] = 1
        found.checkpoint["channel_versions"]["list"] = "9"
        found.metadata["tags"].append("z")
    child = await put(saver, stored, "2", {}, versions={"list": "1", "dict": "1"}, new={})
    assert await values_of(saver, child) == {"list": [1], "dict": {"a": [1]}}


@pytest.mark.parametrize("cache", ["warm", "off", "cold"])
async def test_channel_values_follow_their_versions(kind: str, cache: str, database_uri: str) -> None:
    """What new versions, old versions and no versions make of values, wherever the parent is."""
    large = ["unchanged"] * 1000
    settings = {"state_cache_bytes": 0} if cache == "off" else {}
    async with open_saver(kind, database_uri, **settings) as writer:
        first = await put(
            writer,
            config_of(),
            "1",
            {"large": large, "small": 1, "none": None, "gone": "x", "emptied": [1]},
            versions={
                **dict.fromkeys(["large", "small", "none", "gone", "emptied"], "1"),
                "never": "1",
            },
        )
        async with open_saver(kind, database_uri, **settings) as other:
            # The other one has not seen the parent.
            saver = other if cache == "cold" else writer
            second = await put(
                saver,
                first,
                "2",
                # As LangGraph may: not all of what did not change, and nothing of "emptied".
                {"small": 1, "grown": [1]},
                versions={
                    **dict.fromkeys(["large", "small", "none", "never"], "1"),
                    "emptied": "2",
                    "grown": "2",
                },
                new={"emptied": "2", "grown": "2"},
            )
            third = await put(
                saver,
                second,
                "3",
                {"gone": "back", "emptied": [2], "grown": "not new, and so not meant"},
                versions={
                    **dict.fromkeys(["large", "none", "never"], "1"),
                    **dict.fromkeys(["gone", "emptied"], "3"),
                    "grown": "2",
                },
                new={"gone": "3", "emptied": "3"},
            )
            wanted = {
                "3": {"large": large, "none": None, "gone": "back", "emptied": [2], "grown": [1]},
                "2": {"large": large, "small": 1, "none": None, "grown": [1]},
                "1": {"large": large, "small": 1, "none": None, "gone": "x", "emptied": [1]},
            }

            for reader in (saver, writer):
                for config in (first, second, third):
                    checkpoint_id = config["configurable"]["checkpoint_id"]
                    assert await values_of(reader, config) == wanted[checkpoint_id]
                found = await listed(reader, config_of())
                assert {one.checkpoint["id"]: one.checkpoint["channel_values"] for one in found} == wanted
                assert found[0].checkpoint["channel_versions"].keys() == wanted["3"].keys() | {"never"}


async def test_int_and_float_versions_of_other_savers_are_accepted(saver: Any) -> None:
    """Savers of other packages number versions with ints or floats; threads are taken over."""
    stored = await put(
        saver,
        config_of(),
        "1",
        {"int": 1, "float": 2, "text": 3},
        versions={"int": 1, "float": 2.5, "text": "00003.123"},
        versions_seen={"node": {"int": 1, "float": 1.5}},
    )
    child = await put(
        saver,
        stored,
        "2",
        {"int": 5},
        versions={"int": 2, "float": 2.5, "text": "00003.123"},
        new={"int": 2},
        versions_seen={"node": {"int": 2}, "other": {}},
    )

    found = await saver.aget_tuple(child)

    assert found.checkpoint["channel_values"] == {"int": 5, "float": 2, "text": 3}
    assert exactly(found.checkpoint["channel_versions"], {"int": 2, "float": 2.5, "text": "00003.123"})
    assert found.checkpoint["versions_seen"] == {"node": {"int": 2}, "other": {}}


async def test_forks_see_their_ancestors_values_alone(saver: Any) -> None:
    """Children of one parent, and of old checkpoints, see their ancestors' values and no others."""
    wanted: dict[str, dict[str, Any]] = {}
    configs: dict[str, Any] = {}

    async def child(parent: str | None, name: str, **new: Any) -> None:
        wanted[name] = {**(wanted[parent] if parent else {}), **new}
        versions = {channel: value[-1] if isinstance(value, list) else value for channel, value in wanted[name].items()}
        configs[name] = await put(
            saver,
            configs[parent] if parent else config_of(),
            name,
            new,
            versions=versions,
            new={channel: versions[channel] for channel in new},
        )

    pad = ["pad" * 200]
    await child(None, "01", log=[*pad, "01"], root="01")
    await child("01", "02", log=[*pad, "01", "02"], a="02")
    await child("01", "03", log=[*pad, "01", "03"], b="03")
    await child("02", "04", log=[*pad, "01", "02", "04"])
    await child("03", "05", a="05")
    await child("04", "06", log=[*pad, "rewritten", "06"])
    await child("02", "07", a="07", root="07")
    await child("07", "08", log=[*pad, "01", "02", "08"])
    # A second root in the same thread starts from nothing.
    await child(None, "09", log=["09"])
    await child("01", "10", c="10")

    for name, config in configs.items():
        assert await values_of(saver, config) == wanted[name], name
    found = await listed(saver, config_of())
    assert [one.checkpoint["channel_values"] for one in found] == list(wanted.values())[::-1]


async def test_a_checkpoint_put_beside_its_original_has_all_values(saver: Any) -> None:
    """LangGraph copies a checkpoint by putting it beside its original: all values, none of them new."""
    root = await put(saver, config_of(), "1", {"x": ["root"], "y": ["root"]})
    original = await put(saver, root, "2", {"x": ["two"], "z": ["two"]}, versions={"x": "2", "z": "2"})
    # As `update_state` does it: what was read, under a new id and the original's parent.
    checkpoint = (await saver.aget_tuple(original)).checkpoint
    copied = await saver.aput(root, {**checkpoint, "id": "3"}, {"source": "fork"}, {})

    found = await saver.aget_tuple(copied)

    assert found.checkpoint["channel_values"] == checkpoint["channel_values"]
    assert found.checkpoint["channel_versions"] == checkpoint["channel_versions"]
    assert found.parent_config == root
    child = await put(saver, copied, "4", {"x": ["four"]}, versions={"x": "4", "z": "2"}, new={"x": "4"})
    assert await values_of(saver, child) == {"x": ["four"], "z": ["two"]}


async def test_threads_and_namespaces_have_their_own_values(saver: Any) -> None:
    """The same checkpoint ids, channels and versions, all over: each place has its own values."""
    places = [("1", ""), ("1", "a"), ("1", "a|b"), ("1a", ""), ("2", ""), ("2", "a")]
    for checkpoint_id in ("1", "2"):
        for thread_id, ns in places:
            parent = config_of(thread_id, "1" if checkpoint_id == "2" else None, ns)
            value = [f"{thread_id}{ns}{checkpoint_id}" * 50]
            versions = {"x": checkpoint_id, "kept": "1"}
            new = {"x": value} | ({"kept": value} if checkpoint_id == "1" else {})
            await put(saver, parent, checkpoint_id, new, versions=versions, new={c: versions[c] for c in new})
            await saver.aput_writes(config_of(thread_id, checkpoint_id, ns), [("x", value)], "same task")

    for thread_id, ns in places:
        for config in (config_of(thread_id, "2", ns), config_of(thread_id, ns=ns)):
            found = await saver.aget_tuple(config)
            assert found.checkpoint["channel_values"] == {
                "x": [f"{thread_id}{ns}2" * 50],
                "kept": [f"{thread_id}{ns}1" * 50],
            }
            assert found.pending_writes == [("same task", "x", [f"{thread_id}{ns}2" * 50])]
            assert found.parent_config == config_of(thread_id, "1", ns)
    # A parent of another place is not there: nothing is inherited from it.
    orphan = await put(saver, config_of("3", "1"), "2", {}, versions={"x": "1"}, new={})
    assert await values_of(saver, orphan) == {}


async def test_a_put_of_small_changes_is_small(saver: Any, database_uri: str) -> None:
    """Values that are inherited, or given again though unchanged, are not in the log again."""
    tables = Tables(database_uri)
    noise = [f"{number:x}" for number in range(3000)]
    config = await put(saver, config_of(), "1", {"noise": noise, "x": 0})
    versions = {"noise": "1", "x": "2"}

    config = await put(saver, config, "2", {"noise": noise, "x": 1}, versions=versions, new={"x": "2"})
    # A node that returns the same value again gives it another version.
    versions = {"noise": "3", "x": "2"}
    config = await put(saver, config, "3", {"noise": noise, "x": 1}, versions=versions, new={"noise": "3"})

    sizes = [size for (size,) in tables.rows("select length(body) from {schema}.events order by seq")]
    assert sizes[0] > 5000
    assert max(sizes[1:]) < 400
    assert await values_of(saver, config) == {"noise": noise, "x": 1}
