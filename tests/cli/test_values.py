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
from langgraph.checkpoint.eventlog.cli.render.plain import as_tree
from langgraph.checkpoint.eventlog.cli.render.values import lines_of
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
def test_json(value: Any, expected: Any) -> None:
    found = json_of(as_tree(value))
    assert contains(found, expected), found
    assert text_of(as_tree(value))


def test_what_cannot_be_looked_at() -> None:
    class Bad:
        __slots__ = ("x",)

        def __repr__(self) -> str:
            raise RuntimeError("no")

    found = json_of(as_tree([Bad(), 1]))
    assert found[0]["$type"].endswith("Bad")
    assert found[1] == 1


def test_circles_and_depth() -> None:
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


def test_a_conversation() -> None:
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
        "  → get_weather(city=SF)  call_1",
        "tool  get_weather  call_1  error",
        "  It failed.",
        "ai",
        "  Hm.",
        f"ai  {MODULE}.Odd",
        "  Mine.",
        "remove  an id",
    ]


def test_messages_as_dicts() -> None:
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
        "    → get_weather(city=SF)  1",
        "  tool  1",
        "    sunny",
        "  human",
        "    Thanks",
    ]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}, "[image_url] 3.0 kB"),
        (
            {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
            "[image_url] https://example.org/x.png",
        ),
        ({"type": "image", "source_type": "base64", "data": "A" * 4000, "mime_type": "image/png"}, "[image] 3.0 kB"),
        ({"type": "image", "source": {"type": "base64", "data": "A" * 4000}}, "[image] 3.0 kB"),
        ({"type": "file", "file_id": "file_1"}, "[file] file_1"),
        ({"type": "thinking", "thinking": "Hm.", "signature": "x"}, "[thinking] Hm."),
        ({"type": "audio", "data": b"x" * 2000}, "[audio] 2.0 kB"),
        ({"type": "tool_use", "name": "look", "input": {}}, "[tool_use] look"),
        ({"odd": "block"}, "[block] 5 bytes"),
        ("just text", "just text"),
    ],
)
def test_content_blocks(block: Any, expected: str) -> None:
    """What is not text is named, with its size or its address."""
    assert text_of(as_tree([{"type": "human", "content": [block]}])) == ["human", f"  {expected}"]


@pytest.mark.parametrize(
    "value",
    [[], [1], [{"type": "ai"}], [{"type": "x", "content": "y"}], {"content": "x"}, ["human", "x"], [["x", "y"]]],
)
def test_what_is_no_conversation(value: Any) -> None:
    assert text_of(as_tree(value)) in (
        [line]
        for line in ("[]", "[1]", "[{type: ai}]", "[{type: x, content: y}]", "{content: x}", "[human, x]", "[[x, y]]")
    )


def test_folding() -> None:
    """What is long says how much was left out, and `full` leaves nothing out."""
    long, many = "x" * 3000, "\n".join("abc" for _ in range(100))
    assert text_of(long)[-1] == "… 2,000 more characters (--full shows all)"
    assert len(text_of(many)) == 13
    assert text_of(many)[-1] == f"… {len(many) - 12 * 4 + 1:,} more characters (--full shows all)"
    assert text_of(list(range(1000)))[-1] == "… 980 more (--full shows all)"
    assert text_of({str(n): n for n in range(1000)})[-1] == "… 980 more (--full shows all)"
    messages = [{"role": "user", "content": f"{n}"} for n in range(25)]
    assert text_of(messages)[:3] == ["… 5 earlier messages (--full shows all)", "human", "  5"]
    for value in (long, many, list(range(1000)), messages):
        assert not any("--full" in line for line in text_of(value, full=True))
    assert text_of(long, full=True) == [long]


def test_objects_and_bytes() -> None:
    assert text_of(decoded(Send("agent", {"x": 1}))) == ["Send(node=agent, arg={x: 1})"]
    assert text_of(decoded(b"\x89PNG" * 100)) == ["<400 bytes: 89 50 4e 47 89 50 4e 47 89 50 4e 47 …>"]
    assert text_of(decoded({"a": "1", "b": "", "c": "x, y", "d": 1})) == ['{a: "1", b: "", c: "x, y", d: 1}']
    assert text_of(decoded([Note("a\nb"), Note("c")])) == [
        f"- {MODULE}.Note",
        "    text:",
        "      a",
        "      b",
        f"- {MODULE}.Note(text=c)",
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
def test_any_value(value: Any, full: bool) -> None:
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
def test_any_bytes(data: bytes, type_: str) -> None:
    """Whatever the database holds decodes to something."""
    tree = as_tree(Decoder().loads_typed((type_, data)))
    json_of(tree)
    assert text_of(tree)
