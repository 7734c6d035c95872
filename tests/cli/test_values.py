"""How values are shown to people and to machines, whatever they are: no database."""

from __future__ import annotations

import json
import re
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.types import Send

from langgraph.checkpoint.eventlog.cli.render.decoding import Decoder
from langgraph.checkpoint.eventlog.cli.render.values import lines_of
from langgraph.checkpoint.eventlog.viewing.plain import as_tree
from tests.cli.values import MODULE, Mode, Model, Note, Odd, Pair, contains, decoded, json_of, text_of

pytestmark = pytest.mark.portable

# --- trees and JSON


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        ("text", "text"),
        ("\ud800", "\ud800"),
        (b"\x00\xff", {"$type": "bytes", "base64": "AP8="}),
        (bytearray(b"x"), {"$type": "bytes", "base64": "eA=="}),
        (float("nan"), {"$type": "float", "value": "nan"}),
        (float("-inf"), {"$type": "float", "value": "-inf"}),
        (10**5000, {"$type": "int", "hex": hex(10**5000)}),
        ((1, 2), [1, 2]),
        (deque([1]), [1]),
        ({1: "a", "1": "b"}, {"$type": "dict", "items": [[1, "a"], ["1", "b"]]}),
        ({(1, 2): 3}, {"$type": "dict", "items": [[[1, 2], 3]]}),
        ({3, 1, 2}, {"$type": "set", "value": [1, 2, 3]}),
        (datetime(2026, 11, 22, tzinfo=timezone.utc), "2026-11-22T00:00:00+00:00"),
        (date(2026, 11, 22), "2026-11-22"),
        (time(10, 30), "10:30:00"),
        (timedelta(minutes=1), {"$type": "datetime.timedelta", "seconds": 60.0}),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/tmp"), "/tmp"),
        (ip_address("::1"), "::1"),
        (re.compile("a+"), {"$type": "re.Pattern", "pattern": "a+", "flags": 32}),
        (Mode.RED, {"$type": f"{MODULE}.Mode", "name": "RED", "value": "red"}),
        (Pair(1, 2), {"$type": f"{MODULE}.Pair", "one": 1, "two": 2}),
        (Model(text="x"), {"$type": f"{MODULE}.Model", "text": "x"}),
        (ValueError("no"), {"$type": "ValueError", "message": "no"}),
        (object, {"$type": "type"}),
        (OrderedDict({"$type": "forged", "x": 1}), {"$type": "collections.OrderedDict", "x": 1}),
        (OrderedDict({1: "a"}), {"$type": "collections.OrderedDict", "items": [[1, "a"]]}),
        ({"$type": "bytes", "base64": "not base64"}, {"$type": "bytes", "base64": "not base64"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_type_becomes_json(value: Any, expected: Any) -> None:
    found = json_of(as_tree(value))
    assert contains(found, expected), found
    assert text_of(as_tree(value))


def test_an_object_that_raises_is_named_by_its_type() -> None:
    class Bad:
        __slots__ = ("x",)

        def __repr__(self) -> str:
            raise RuntimeError("no")

    found = json_of(as_tree([Bad(), 1]))
    assert found[0]["$type"].endswith("Bad")
    assert found[1] == 1


def test_circles_and_deep_values_are_cut_off() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert as_tree(circle) == [1, {"$type": "left out", "why": "it contains itself"}]
    wraps: list[Callable[[Any], Any]] = [
        lambda value: [value],
        lambda value: {"key": value},
        lambda value: {1: value},
        lambda value: Note("text", value),
        lambda value: {"type": "ai", "content": "", "tool_calls": [{"name": "call", "args": {"x": value}}]},
    ]
    for wrap in wraps:
        deep: Any = "bottom"
        for _ in range(5000):
            deep = wrap(deep)
        assert "nested too deep" in json.dumps(json_of(as_tree(deep)))
        assert text_of(as_tree(deep), full=True)


# --- for people


def test_messages_are_shown_as_a_conversation() -> None:
    """Roles, texts, calls, results, usage; the same from messages, from their fields and from dicts of chat APIs."""
    calls = [{"name": "get_weather", "args": {"city": "SF"}, "id": "call_1"}]
    messages = [
        SystemMessage("Be brief."),
        HumanMessage("What is the\nweather?"),
        AIMessage(
            [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "name": "get_weather", "input": {}, "id": "x"},
            ],
            tool_calls=calls,
            usage_metadata={"input_tokens": 1052, "output_tokens": 12, "total_tokens": 1064},
            response_metadata={"model_name": "gpt-x"},
        ),
        ToolMessage("It failed.", tool_call_id="call_1", name="get_weather", status="error"),
        AIMessageChunk("Hm."),
        Odd("Mine."),
        RemoveMessage("an id"),
    ]
    assert text_of(decoded(messages)) == [
        "system",
        "  Be brief.",
        "human",
        "  What is the",
        "  weather?",
        "ai  gpt-x  tokens: 1,052 in, 12 out",
        "  Let me look.",
        "  → get_weather (call_1): {'city': 'SF'}",
        "tool  get_weather  call_1  error",
        "  It failed.",
        "ai",
        "  Hm.",
        f"ai  {MODULE}.Odd",
        "  Mine.",
        "remove  an id",
    ]


def test_dicts_of_chat_apis_are_shown_as_a_conversation() -> None:
    function = {"name": "get_weather", "arguments": '{"city": "SF"}'}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]},
        {"role": "tool", "content": [{"type": "text", "text": "sunny"}], "tool_call_id": "1"},
        ("human", "Thanks"),
    ]
    assert text_of(decoded({"messages": messages})) == [
        "messages:",
        "  human",
        "    Hi",
        "  ai",
        "    → get_weather (1): {'city': 'SF'}",
        "  tool  1",
        "    sunny",
        "  human",
        "    Thanks",
    ]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x.org/y.png"}},
            ["{'type': 'image_url', 'image_url': {'url': 'https://x.org/y.png'}}"],
        ),
        ({"type": "file", "file_id": "file_1"}, ["{'type': 'file', 'file_id': 'file_1'}"]),
        ({"type": "thinking", "thinking": "Hm.\nYes."}, ["{'type': 'thinking', 'thinking': 'Hm.\\nYes.'}"]),
        ({"type": "tool_use", "name": "look", "input": {}}, ["{'type': 'tool_use', 'name': 'look', 'input': {}}"]),
        (
            {"type": "image", "source": {"type": "base64", "data": "A" * 4000}},
            ["type: image", "source:", "  type: base64", "  data:", f"    {'A' * 1000}"],
        ),
        ({"odd": "block"}, ["{'odd': 'block'}"]),
        ({"type": "text", "text": "1"}, ["1"]),
        ("just text", ["just text"]),
    ],
)
def test_content_blocks_that_are_not_text_are_shown_as_data(block: Any, expected: list[str]) -> None:
    shown = text_of(as_tree([{"type": "human", "content": [block]}]))
    assert shown[: len(expected) + 1] == ["human", *(f"  {line}" for line in expected)]


@pytest.mark.parametrize(
    "value",
    [[], [1], [{"type": "ai"}], [{"type": "x", "content": "y"}], {"content": "x"}, ["human", "x"], [["x", "y"]]],
)
def test_other_lists_and_dicts_are_no_conversation(value: Any) -> None:
    assert text_of(as_tree(value)) in (
        [line]
        for line in (
            *("[]", "[1]", "[{'type': 'ai'}]", "[{'type': 'x', 'content': 'y'}]"),
            *("{'content': 'x'}", "['human', 'x']", "[['x', 'y']]"),
        )
    )


def test_long_values_are_cut_with_a_count() -> None:
    """What is long says how much was left out, and `full` leaves nothing out."""
    long, many = "x" * 3000, "\n".join("abc" for _ in range(100))
    assert text_of(long)[-1] == "… 2,000 more characters (--full shows all)"
    assert len(text_of(many)) == 13
    assert text_of(many)[-1] == f"… {len(many) - 12 * 4 + 1:,} more characters (--full shows all)"
    assert text_of(list(range(1000))) == [f"[{', '.join(map(str, range(20)))}, ... +980]"]
    assert text_of([long])[1] == f"  '{'x' * 200}'+2800"
    assert text_of({str(n): n for n in range(1000)})[-1] == "… 980 more (--full shows all)"
    messages = [{"role": "user", "content": f"{n}"} for n in range(25)]
    assert text_of(messages)[:3] == ["… 5 earlier messages (--full shows all)", "human", "  5"]
    for value in (long, many, list(range(1000)), messages):
        assert not any("--full" in line or "... +" in line for line in text_of(value, full=True))
    assert text_of(long, full=True) == [long]


def test_objects_and_bytes_are_shown_with_their_types() -> None:
    assert text_of(decoded(Send("agent", {"x": 1}))) == ["Send(node='agent', arg={'x': 1})"]
    assert text_of(decoded(b"\x89PNG")) == ["bytes(base64='iVBORw==')"]
    assert text_of(decoded({"a": "1", "b": "", "d": 1})) == ["{'a': '1', 'b': '', 'd': 1}"]
    assert text_of(decoded([Note("a\nb"), Note("c" * 80)])) == [
        "[",
        f"  {MODULE}.Note(text='a\\nb'),",
        f"  {MODULE}.Note(",
        f"    text='{'c' * 80}'",
        "  )",
        "]",
    ]
    assert [text_of(text) for text in ("1", "None", "[x]", "a word", "")] == [
        *(["'1'"], ["'None'"], ["'[x]'"], ["a word"], ["''"])
    ]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(11_000, 11_010).map(lambda bits: 1 << bits)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=30)
    | st.sampled_from(["\x1b[31m", "\x9b31m", "\u202e", "a\rb", "\x08", "\x07", "\x1b]0;x\x07", "x" * 3000, "a\n" * 99])
    | st.binary(max_size=30)
    | st.datetimes()
    | st.uuids()
    | st.decimals()
    | st.frozensets(st.integers())
)
KEYS = st.text(max_size=5) | st.integers() | st.booleans() | st.sampled_from(["$type", "type", "content", "\x1b[0m"])
WORDS = st.sampled_from(["human", "ai", "tool", "remove", "assistant", "text", "image_url", "tool_use", "\x1b[2J"])
MESSAGE_KEYS = [
    *("type", "role", "content", "name", "id", "tool_calls", "usage_metadata", "response_metadata", "tool_call_id"),
    *("invalid_tool_calls", "additional_kwargs", "status", "$type", "args", "function", "arguments", "text", "url"),
]


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(st.sampled_from(MESSAGE_KEYS), inner | WORDS, max_size=8)
        | st.builds(lambda role, content: {"type": role, "content": content}, WORDS, inner)
        | st.builds(Note, st.text(max_size=5), inner)
    )


VALUES = st.recursive(SCALARS, containers, max_leaves=25)


@settings(max_examples=400, deadline=None)
@given(VALUES, st.booleans())
def test_any_value_is_shown_without_control_characters(value: Any, full: bool) -> None:
    """It is shown, nothing in it controls a terminal, lines are lines, and JSON parses."""
    tree = as_tree(value)
    json_of(tree)
    lines = list(lines_of(tree, full=full))
    assert lines
    for indent, text in lines:
        assert indent >= 0
        assert all(char.isprintable() for char in text.plain), repr(text.plain)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["msgpack", "json", "bytes", "null", "pickle", "x"]))
def test_any_bytes_decode_to_something(data: bytes, type_: str) -> None:
    """Whatever the database holds decodes to something."""
    tree = as_tree(Decoder().loads_typed((type_, data)))
    json_of(tree)
    assert text_of(tree)
