"""How the command decodes untrusted values: no database."""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any

import ormsgpack
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Interrupt, Send

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog.cli.render.decoding import Decoder, allowed_types
from langgraph.checkpoint.eventlog.viewing.plain import as_tree
from tests.cli.values import MODULE, RUN, Mode, Model, Note, Odd, Pair, contains, decoded, json_of, text_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            Note("x", Note("y")),
            {"$type": f"{MODULE}.Note", "text": "x", "more": {"$type": f"{MODULE}.Note"}},
        ),
        (Model(text="x"), {"$type": f"{MODULE}.Model", "text": "x"}),
        (Pair(1, 2), {"$type": f"{MODULE}.Pair", "one": 1, "two": 2}),
        (Mode.RED, {"$type": f"{MODULE}.Mode", "value": "red"}),
        (Odd("x"), {"$type": f"{MODULE}.Odd", "type": "ai", "content": "x"}),
        ([Note("x")], [{"$type": f"{MODULE}.Note", "text": "x"}]),
        (Send("node", Note("x")), {"$type": "langgraph.types.Send", "node": "node", "arg": {"text": "x"}}),
        (Interrupt(Note("x")), {"$type": "langgraph.types.Interrupt", "value": {"text": "x"}}),
        (_DeltaSnapshot([Note("x")]), {"value": [{"text": "x"}]}),
        (HumanMessage("x", additional_kwargs={"note": Note("y")}), {"type": "human", "content": "x"}),
    ],
)
def test_other_types_become_data_and_run_no_code(value: Any, expected: Any) -> None:
    """What is not on the list is data with its type's name, wherever it is; no code of its own runs."""
    tree = decoded(value)
    assert RUN == []
    assert contains(tree, expected), tree
    assert contains(json_of(tree), expected)


def test_allow_loads_one_class_and_trust_all() -> None:
    """`--allow` loads the class that it names and no other; `--trust` all."""
    value = [Note("x"), Model(text="y")]
    tree = decoded(value, Decoder(allowed_types([f"{MODULE}:Note"])))
    assert RUN == ["x"]
    assert contains(tree, [{"$type": f"{MODULE}.Note", "text": "x"}, {"$type": f"{MODULE}.Model", "text": "y"}])
    decoded(value, Decoder(trust=True))
    assert RUN == ["x", "y"]


def test_refused_types_are_counted() -> None:
    decoder = Decoder()
    decoded([Note("x"), Note("y"), Mode.RED, 1], decoder)
    assert decoder.refused == {(MODULE, "Note"): 2, (MODULE, "Mode"): 1}


@pytest.mark.parametrize(
    "text", ["", "Note", "a.b.Note", "a:b:c", ":Note", "a:", "a.:b", "a b:c", "os:system()", "a:B "]
)
def test_allow_refuses_what_names_no_class(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"--allow: .* write it as package\.module:Class"):
        allowed_types(["a:B", text])


def ext(code: int, *content: Any) -> bytes:
    """An extension as a forger would write it."""
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(list(content))))


@pytest.mark.parametrize(
    "stored",
    [
        ("msgpack", ext(0, "os", "system", "true")),
        ("msgpack", ext(0, "builtins", "eval", f"__import__('sys').modules['{MODULE}'].RUN.append('x')")),
        ("msgpack", ext(1, "subprocess", "run", ["true"])),
        ("msgpack", ext(2, MODULE, "Note", {"text": "x"})),
        ("msgpack", ext(3, MODULE, "RUN", "x", "append")),
        ("msgpack", ext(4, MODULE, "Note", {"text": "x"})),
        ("msgpack", ext(5, MODULE, "Model", {"text": "x"}, "model_validate_json")),
        (
            "msgpack",
            ext(5, "langchain_core.messages.ai", "AIMessage", {"content": {"not": "text"}}, "model_validate_json"),
        ),
        ("msgpack", ext(0, "uuid", "UUID", "not one")),
        ("msgpack", ext(0, ["not", "a", "module"], {"nor": "a name"}, 1)),
        ("msgpack", ext(0)),
        ("msgpack", ext(99, "future")),
        ("msgpack", ormsgpack.packb(ormsgpack.Ext(6, ormsgpack.packb(["<f8", [1], "C", b"12345678"])))),
        ("msgpack", b"\xc1"),
        ("msgpack", b""),
        (
            "json",
            json.dumps({"lc": 2, "type": "constructor", "id": [*MODULE.split("."), "Note"], "args": ["x"]}).encode(),
        ),
        ("json", json.dumps({"lc": 1, "type": "constructor", "id": [], "kwargs": {"text": "x"}}).encode()),
        ("json", json.dumps({"lc": 1, "type": "secret", "id": ["PATH"]}).encode()),
        ("json", b"{"),
        ("pickle", pickle.dumps(Note("x"))),
        ("from the future", b"x"),
        ("bytes", b"x"),
    ],
    ids=lambda stored: stored[0],
)
@pytest.mark.parametrize("allow", [frozenset(), frozenset({("some.module", "Class")})])
def test_forged_values_are_shown_and_run_no_code(stored: tuple[str, bytes], allow: frozenset[tuple[str, str]]) -> None:
    """Nothing runs, nothing fails, and something is shown."""
    RUN.clear()
    tree = as_tree(Decoder(allow).loads_typed(stored))
    assert RUN == []
    assert text_of(tree)
    json_of(tree)


def test_no_module_is_imported() -> None:
    """Not even that of a type that is shown as data."""
    assert "antigravity" not in sys.modules
    Decoder().loads_typed(("msgpack", ext(2, "antigravity", "Note", {"text": "x"})))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("trust", [False, True])
def test_pickles_are_never_loaded(trust: bool) -> None:
    tree = as_tree(Decoder(trust=trust).loads_typed(("pickle", pickle.dumps({"x": 1}))))
    assert tree["$type"] == "undecodable"
    assert tree["serialized_as"] == "pickle"


@pytest.mark.attack("hostile content")
def test_endlessly_nested_extensions_are_undecodable() -> None:
    """Nested deeper than Python can go: the value is undecodable, the process lives."""
    data = ormsgpack.packb(1)
    for _ in range(3000):
        data = ormsgpack.packb(ormsgpack.Ext(7, data))
    assert Decoder().loads_typed(("msgpack", data))["$type"] == "undecodable"


def test_sets_of_objects_or_lists_are_shown_whole() -> None:
    """Sets of objects or lists are shown as lists, whole."""
    assert decoded({Mode.RED}) == {
        "$type": "builtins.set",
        "value": [{"$type": f"{MODULE}.Mode", "value": "red"}],
    }
    assert decoded({(1, 2)}) == {"$type": "builtins.set", "value": [[1, 2]]}
    assert decoded({1, 2}) == {"$type": "set", "value": [1, 2]}
