"""Comparing values without calling a class's own `__eq__`, and checking what a serializer decodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import SerializationError
from eventlog.format.contents import Serialized
from eventlog.format.strict import StrictSerializer
from langgraph.checkpoint.eventlog.transfer.source import made_at
from langgraph.checkpoint.eventlog.transfer.values import ValueReader, is_same

NAN = float("nan")


class Hostile:
    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    __hash__ = None  # type: ignore[assignment]


@dataclass
class Unlisted:
    """A type that the strict serializer takes for data."""

    text: str


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (NAN, float("nan"), True),
        ([NAN, {"x": (NAN,)}], [NAN, {"x": (NAN,)}], True),
        (0.0, -0.0, False),
        (1, 1.0, False),
        (1, True, False),
        (None, False, False),
        ("a", "a", True),
        ("a", b"a", False),
        ([1, 2], [1, 2, 3], False),
        ([1, 2], (1, 2), False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({1: "x"}, {1: "x"}, True),
        ({1: "x"}, {True: "x"}, False),
        ([Hostile()], [Hostile()], True),
        (Hostile(), 1, False),
        (Hostile(), {"$type": "tests.Hostile"}, True),
    ],
)
def test_values_are_compared_by_type_and_content(one: Any, other: Any, same: bool) -> None:
    assert is_same(one, other, lambda _, __: True) is same


CASES: list[tuple[Any, Any, bool]] = [
    (HumanMessage("a"), HumanMessage("a"), True),
    (HumanMessage("a"), HumanMessage("other"), False),
    ([{"x": HumanMessage("a")}], [{"x": HumanMessage("other")}], False),
    ({1, 2}, {1, 2}, True),
    ({1, 2}, {3}, False),
    (AIMessage("a", additional_kwargs={"x": 1, "y": 2}), AIMessage("a", additional_kwargs={"y": 2, "x": 1}), True),
    (Unlisted("a"), Unlisted("a"), True),
    (Unlisted("a"), Unlisted("b"), False),
    ({"b": Unlisted("a"), "a": 1}, {"a": 1, "b": Unlisted("a")}, True),
    ({"b": Unlisted("a"), "a": 1}, {"a": 1, "b": Unlisted("b")}, False),
]


@pytest.mark.parametrize("serde", [JsonPlusSerializer(), StrictSerializer()])
@pytest.mark.parametrize(("given", "kept", "same"), CASES)
def test_objects_are_compared_by_their_serialization(serde: Any, given: Any, kept: Any, same: bool) -> None:
    reader = ValueReader(serde)
    stored = Serialized(*serde.dumps_typed(kept))
    assert reader.is_decoded(given, stored, "here") is same


def test_the_order_of_a_sets_members_is_no_difference() -> None:
    """0 and 8 have the same place in a set's table: the first to come is the first to be listed."""
    one, other = {0, 8}, {8, 0}
    assert list(one) != list(other)
    serde = JsonPlusSerializer()
    assert ValueReader(serde).is_decoded(one, Serialized(*serde.dumps_typed(other)), "here")


def test_objects_that_were_decoded_are_compared_by_their_serialization() -> None:
    reader = ValueReader(JsonPlusSerializer(pickle_fallback=True))
    assert reader.is_same_object(HumanMessage("a"), HumanMessage("a"))
    assert not reader.is_same_object(HumanMessage("a"), HumanMessage("other"))


@pytest.mark.parametrize("serde", [JsonPlusSerializer(), StrictSerializer()])
def test_what_does_not_decode_is_refused_also_within_a_list(serde: Any) -> None:
    reader = ValueReader(serde)
    good = Serialized(*serde.dumps_typed([AIMessage("one", id="1"), AIMessage("two", id="2")]))
    assert reader.value(good, "here") is good
    for value in (
        Serialized("msgpack", b"\xc1"),
        Serialized("msgpack", good.data[:-1]),
        Serialized("pickle", b"\x80\x04N."),
        Serialized("msgpack+aes", b""),
        Serialized("", b""),
    ):
        with pytest.raises(SerializationError, match=r"^here: the log's serializer refuses a value of type"):
            reader.value(value, "here")


def test_a_checkpoint_says_when_it_was_made_by_its_time_or_its_id() -> None:
    id_ = "1f1ec2a0-8b1c-68d7-bfff-28732cc9f50e"
    by_id = made_at(id_, None)
    assert by_id is not None
    assert by_id.isoformat().startswith("2026-11-29T19:2")
    assert made_at(id_, "2024-05-04T06:32:42.235444+00:00") < by_id
    assert made_at(id_, "2024-05-04T06:32:42Z") == made_at("x", "2024-05-04T06:32:42+00:00")
    assert made_at(id_, "no time") == by_id
    assert made_at("5f1ec2a0-8b1c-48d7-bfff-28732cc9f50e", None) is None
