"""Values of classes that record their making, and what people and machines see of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from langgraph.checkpoint.eventlog.cli.render.decoding import Decoder
from langgraph.checkpoint.eventlog.cli.render.values import lines_of
from langgraph.checkpoint.eventlog.viewing.plain import as_tree

SERDE = JsonPlusSerializer(pickle_fallback=True)

#: What the types of the classes below are called by.
MODULE = __name__

#: What making an object of one of the classes below leaves behind.
RUN: list[str] = []


@dataclass
class Note:
    """A dataclass that records its making."""

    text: str
    more: Any = None

    def __post_init__(self) -> None:
        RUN.append(self.text)


class Model(BaseModel):
    """A pydantic model of which the same is true."""

    text: str

    def model_post_init(self, _: Any) -> None:
        RUN.append(self.text)


class Pair(NamedTuple):
    one: int
    two: int


class Mode(Enum):
    RED = "red"


class Odd(AIMessage):
    """A message class of the application's own."""


def decoded(value: Any, decoder: Decoder | None = None) -> Any:
    """The tree of a value as it comes back from the log."""
    stored = SERDE.dumps_typed(value)
    RUN.clear()
    return as_tree((decoder or Decoder()).loads_typed(stored))


def text_of(tree: Any, **options: Any) -> list[str]:
    """What people see, indented."""
    return ["  " * indent + text.plain for indent, text in lines_of(tree, **options)]


def json_of(tree: Any) -> Any:
    """What machines see: strict JSON, there and back."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(json.dumps(tree), parse_constant=refuse)


def contains(tree: Any, expected: Any) -> bool:
    """Whether what is expected is there, in mappings beside other things."""
    if isinstance(expected, dict):
        return isinstance(tree, dict) and all(
            key in tree and contains(tree[key], each) for key, each in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(tree, list) and len(tree) == len(expected) and all(map(contains, tree, expected))
    return bool(tree == expected)
