"""What differs between two checkpoints of a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import Difference, ValueDifference
from projections.diff import differences
from tests.audit.test_history import Counting
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import TEXTS, config_of, converse, put, tangle


def same(one: Any, other: Any) -> bool:
    return bool(one == other)


def between(before: Any, after: Any) -> list[tuple[Any, ...]]:
    return [tuple(each) for each in differences(before, after, same)]


class Point(BaseModel):
    x: int
    y: list[int] = []


@dataclass
class Pair:
    left: Any
    right: Any


class Named(NamedTuple):
    id: str
    value: Any


# --- values


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1, 1, []),
        (1, 2, [("changed", (), 1, 2)]),
        (1, True, [("changed", (), 1, True)]),
        ([1], [1.0], [("changed", (0,), 1, 1.0)]),
        (None, {}, [("changed", (), None, {})]),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, [
            ("removed", ("a",), 1, None), ("changed", ("b",), 2, 3), ("added", ("c",), None, 4),
        ]),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, [("changed", ("a", "b", 1, "c"), 2, 3)]),
        ({(1, 2): 3}, {}, [("removed", ("(1, 2)",), 3, None)]),
        ([1, 2, 3], [1, 2, 3, 4], [("added", (3,), None, 4)]),
        ([1, 2, 3], [2, 3], [("removed", (0,), 1, None)]),
        ([1, 2, 3, 9], [1, 4, 5, 9], [("changed", (1,), 2, 4), ("changed", (2,), 3, 5)]),
        ([1, 2, 9], [1, 4, 5, 9], [("removed", (1,), 2, None), ("added", (1,), None, 4), ("added", (2,), None, 5)]),
        ([1, 1], [1, 1, 1], [("added", (2,), None, 1)]),
        ((1, 2), (1, 3), [("changed", (1,), 2, 3)]),
        ((1, 2), [1, 2], [("changed", (), (1, 2), [1, 2])]),
        ({1, 2}, {2, 3}, [("removed", (), 1, None), ("added", (), None, 3)]),
        (Point(x=1, y=[1]), Point(x=2, y=[1, 2]), [("changed", ("x",), 1, 2), ("added", ("y", 1), None, 2)]),
        (Pair(1, [2]), Pair(1, [3]), [("changed", ("right", 0), 2, 3)]),
        (Named("a", 1), Named("a", 2), [("changed", ("value",), 1, 2)]),
        (Pair(1, 2), Named("1", 2), [("changed", (), Pair(1, 2), Named("1", 2))]),
        # By id, where all have one.
        (
            [{"id": "a", "x": 1}, {"id": "b", "x": 2}, {"id": "c", "x": 3}],
            [{"id": "b", "x": 9}, {"id": "d", "x": 4}, {"id": "c", "x": 5}],
            [("removed", (0,), {"id": "a", "x": 1}, None), ("changed", (0, "x"), 2, 9),
             ("added", (1,), None, {"id": "d", "x": 4}), ("changed", (2, "x"), 3, 5)],
        ),
        # Those that change places are told by place.
        (
            [Named("a", 1), Named("b", 1)],
            [Named("b", 1), Named("a", 1)],
            [("changed", (0, "id"), "a", "b"), ("changed", (1, "id"), "b", "a")],
        ),
        # And so are those of which two have the same.
        ([Named("a", 1), Named("a", 2)], [Named("a", 3), Named("a", 2)], [("changed", (0, "value"), 1, 3)]),
    ],
)  # fmt: skip
def test_diff_lists_every_difference_between_values(before: Any, after: Any, expected: list[Any]) -> None:
    assert between(before, after) == expected
    assert between(before, before) == between(after, after) == []


def test_deep_values_are_compared_in_bounded_time_and_depth() -> None:

    def nested(depth: int, value: Any) -> Any:
        for _ in range(depth):
            value = [0, value, 1]
        return value

    ((kind, path, before, after),) = between(nested(30, "a"), nested(30, "b"))
    assert (kind, path, before, after) == ("changed", (1,) * 30, "a", "b")
    ((kind, path, _, _),) = between(nested(200, "a"), nested(200, "b"))
    assert kind == "changed"
    assert len(path) == 40


def test_each_item_of_a_long_list_is_compared_once() -> None:
    """Each item is compared once: a thousand items inserted in the middle of a long list are no million pairs."""
    compared = 0

    def counting(one: Any, other: Any) -> bool:
        nonlocal compared
        compared += 1
        return bool(one == other)

    items = [f"item {number}" for number in range(3000)]
    assert len(differences(items, [*items[:1000], *["x"] * 1000, *items[1000:]], counting)) == 1000
    assert compared < 4000


# --- checkpoints


async def diff(saver: Any, before: Any, after: Any, **options: Any) -> Difference:
    found = await saver.log.diff("1", before, after, **options)
    assert isinstance(found, Difference)
    return found


async def test_diff_lists_changed_added_and_removed_values(saver: Any) -> None:
    messages: list[Any] = [HumanMessage("Where?", id="h"), AIMessage("There.", id="a")]
    first = await put(
        saver, config_of("1"), "a", {"messages": messages, "kept": TEXTS, "gone": 1}, metadata={"step": 1, "x": "y"}
    )
    corrected = messages[1].model_copy(update={"content": "Here."})
    await put(
        saver,
        first,
        "b",
        {"messages": [messages[0], corrected, HumanMessage("Thanks.", id="t")], "kept": TEXTS, "new": 2},
        metadata={"step": 2, "x": "y"},
    )
    found = await diff(saver, "a", "b")
    assert found.channels == {
        "messages": [
            ValueDifference("changed", (1, "content"), "There.", "Here."),
            ValueDifference("added", (2,), None, HumanMessage("Thanks.", id="t")),
        ],
        "gone": [ValueDifference("removed", (), 1, None)],
        "new": [ValueDifference("added", (), None, 2)],
    }
    assert found.unchanged == ["kept"]
    assert found.metadata == [ValueDifference("changed", ("step",), 1, 2)]
    assert (found.thread_id, found.checkpoint_ns, found.before, found.after) == ("1", "", "a", "b")
    assert (found.ancestor, found.steps_before, found.steps_after) == ("a", 0, 1)

    backwards = await diff(saver, "b", "a")
    assert backwards.channels.keys() == found.channels.keys()
    assert backwards.channels["new"] == [ValueDifference("removed", (), 2, None)]
    assert (backwards.ancestor, backwards.steps_before, backwards.steps_after) == ("a", 1, 0)

    itself = await diff(saver, "b", "b")
    assert (itself.channels, itself.metadata, itself.ancestor) == ({}, [], "b")
    assert (itself.steps_before, itself.steps_after) == (0, 0)


async def test_diff_of_two_branches_names_their_common_ancestor(saver: Any) -> None:
    await tangle(saver)
    found = await diff(saver, "d2", "h")
    assert (found.ancestor, found.steps_before, found.steps_after) == ("d", 2, 4)
    # The children of d go on from what it was; the projection tells what it is.
    assert found.channels["y"] == [ValueDifference("added", (), None, 1)]
    await put(saver, config_of("1"), "z", {"x": 1})
    apart = await diff(saver, "d2", "z")
    assert (apart.ancestor, apart.steps_before, apart.steps_after) == (None, None, None)


async def test_diff_compares_within_one_namespace(saver: Any) -> None:
    await converse(saver, ns="sub", ids="ab")
    found = await diff(saver, "a", "b", checkpoint_ns="sub")
    assert found.channels == {"x": [ValueDifference("added", (31,), None, "b")]}
    with pytest.raises(ThreadNotFoundError, match="'a' in namespace ''"):
        await diff(saver, "a", "b")


async def test_diff_adds_what_was_appended_between_any_two_checkpoints(database_uri: str) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await converse(saver)
        for start, one in enumerate("abcdefgh"):
            for end, other in enumerate("abcdefgh"):
                found = await diff(saver, one, other)
                listed = found.channels.get("x", [])
                assert [each.kind for each in listed] == ["added" if end > start else "removed"] * abs(end - start)
                assert (found.steps_before, found.steps_after) == (max(start - end, 0), max(end - start, 0))


@POOLS
async def test_only_differing_channels_are_decoded(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        await converse(saver)
    serde = Counting()
    async with open_saver(kind, database_uri, serde=serde) as reader:
        found = await diff(reader, "b", "g")
    assert found.unchanged == ["y"]
    assert serde.loaded == 4, "the channel x and the metadata, of both"


class Weird(BaseModel):
    value: float


async def test_nan_and_reordered_keys_are_no_difference(database_uri: str) -> None:
    """NaN is what it was; the order of keys is no difference; a serializer's refusal is none either."""
    serde = JsonPlusSerializer(allowed_msgpack_modules=[(Weird.__module__, Weird.__name__)])
    async with open_saver("sync-pool", database_uri, serde=serde) as saver:
        nan = float("nan")
        values = {"nan": [nan, 1], "weird": [Weird(value=nan)], "keys": {"a": 1, "b": 2}, "big": [1 << 80]}
        first = await put(saver, config_of("1"), "a", values)
        changed = {"nan": [nan, 2], "weird": [Weird(value=nan), 1], "keys": {"b": 2, "a": 1}, "big": [1 << 80, 1 << 81]}
        await put(saver, first, "b", changed)
        found = await diff(saver, "a", "b")
    assert found.channels == {
        "nan": [ValueDifference("changed", (1,), 1, 2)],
        "weird": [ValueDifference("added", (1,), None, 1)],
        "big": [ValueDifference("added", (1,), None, 1 << 81)],
    }
    assert found.unchanged == ["keys"]


@POOLS
async def test_diff_of_an_encrypted_log_needs_its_key(kind: str, database_uri: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with open_saver(kind, database_uri, serde=serde) as saver:
        await converse(saver)
        assert (await diff(saver, "a", "c")).channels.keys() == {"x"}
    async with open_saver(kind, database_uri) as reader:
        with pytest.raises(LogCorruptedError, match="encrypted"):
            await diff(reader, "a", "c")


async def test_a_pruned_ancestor_is_not_named(saver: Any) -> None:
    await tangle(saver)
    await saver.log.prune(["1"], keep_last=1)
    found = await diff(saver, "d2", "h")
    assert (found.ancestor, found.steps_before, found.steps_after) == (None, None, None)
    assert "x" in found.channels


async def test_bad_arguments_and_unknown_checkpoints_are_refused(saver: Any) -> None:
    await converse(saver, ids="ab")
    await converse(saver, "2", ids="xy")
    for before, after in (("a", "never"), ("never", "b"), ("a", "x")):
        with pytest.raises(ThreadNotFoundError, match="thread '1' has no checkpoint"):
            await diff(saver, before, after)
    with pytest.raises(ThreadNotFoundError, match="thread 'never'"):
        await saver.log.diff("never", "a", "b")
    for arguments in (("1", "a", None), ("1", "", "b"), ("", "a", "b"), ("1", "a\0", "b"), ("1", "a", object())):
        with pytest.raises(InvalidInputError):
            await saver.log.diff(*arguments)
    with pytest.raises(InvalidInputError, match="checkpoint_ns"):
        await diff(saver, "a", "b", checkpoint_ns=None)
    await saver.adelete_thread("1")
    with pytest.raises(ThreadNotFoundError):
        await diff(saver, "a", "b")
