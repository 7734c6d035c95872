"""Any value as a tree of plain data, and such a tree as JSON. Neither ever fails, whatever the value is.

A tree consists of None, booleans, integers, floats, texts, bytes, lists, and mappings whose keys are such scalars. What
is none of these is a mapping that names its type under ``$type``; LangChain's messages are mappings of their fields, as
they name their role under ``type``. Dates, UUIDs, decimals, paths and the like are texts.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from langgraph.checkpoint.eventlog.cli.render.decoding import TYPE

__all__ = ["Tree", "as_json", "as_tree", "number"]

Tree: TypeAlias = Any

#: Nested deeper, a value is cut off: Python's own recursion has an end too.
MAX_DEPTH = 150

#: Integers beyond are written in hex: Python bounds how long a decimal integer it converts.
MAX_INT_BITS = 10_000

_SCALARS = (type(None), bool, int, float, str, bytes)
_TEXTS = (UUID, Decimal, PurePath, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ZoneInfo, timezone)


def as_tree(value: Any) -> Tree:
    """The tree of a value."""
    return _tree(value, 0, frozenset())


def _tree(value: Any, depth: int, above: frozenset[int]) -> Tree:
    if type(value) in _SCALARS:
        return value
    if depth == MAX_DEPTH or id(value) in above:
        return {TYPE: "left out", "why": "it contains itself" if id(value) in above else "nested too deep"}
    above = above | {id(value)}

    def inner(each: Any) -> Tree:
        return _tree(each, depth + 1, above)

    if type(value) in (list, tuple, deque):
        return [inner(each) for each in value]
    if type(value) is dict:
        return {_key(key): inner(each) for key, each in value.items()}
    try:
        return _object(value, inner)
    except Exception as exc:
        # Classes are the user's where they are trusted, and their attributes and texts may raise anything.
        return {TYPE: _name(type(value)), "why": f"it cannot be looked at: {type(exc).__name__}"}


def _object(value: Any, inner: Callable[[Any], Tree]) -> Tree:
    kind = type(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Enum):
        return {TYPE: _name(kind), "name": value.name, "value": inner(value.value)}
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return {TYPE: _name(kind), "seconds": value.total_seconds()}
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, re.Pattern):
        return {TYPE: "re.Pattern", "pattern": inner(value.pattern), "flags": int(value.flags)}
    if isinstance(value, (set, frozenset)):
        return {TYPE: _name(kind), "value": sorted(map(inner, value), key=lambda each: json.dumps(as_json(each)))}
    if isinstance(value, BaseModel):
        content = {**vars(value), **(value.__pydantic_extra__ or {})}
        name = {} if isinstance(value, BaseMessage) and kind.__module__.startswith("langchain_core.") else _named(kind)
        return {**name, **{_key(key): inner(each) for key, each in content.items()}}
    if hasattr(value, "_asdict"):
        return {**_named(kind), **inner(value._asdict())}
    if is_dataclass(value):
        return {**_named(kind), **{field.name: inner(getattr(value, field.name)) for field in fields(value)}}
    if isinstance(value, BaseException):
        return {**_named(kind), "message": str(value)}
    if isinstance(value, Mapping):
        return {**_named(kind), **{_key(key): inner(each) for key, each in value.items()}}
    plain: Any
    for plain in (str, int, float, bytes, list, tuple, deque):
        if isinstance(value, plain):
            return {**_named(kind), "value": inner(plain(value))}
    slots = [name for base in kind.__mro__ for name in _slots(base)]
    content = {
        **{name: getattr(value, name) for name in slots if hasattr(value, name)},
        **getattr(value, "__dict__", {}),
    }
    if content:
        return {**_named(kind), **{_key(key): inner(each) for key, each in content.items()}}
    return {**_named(kind), "value": repr(value)}


def _slots(base: type) -> list[str]:
    names = base.__dict__.get("__slots__", ())
    names = [names] if isinstance(names, str) else list(names)
    return [name for name in names if not name.startswith("__")]


def _key(key: Any) -> Any:
    """A key that a tree can have: a scalar as it is, others as text."""
    return key if type(key) in _SCALARS else json.dumps(as_json(_tree(key, MAX_DEPTH - 5, frozenset())))


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _named(kind: type) -> dict[str, str]:
    return {TYPE: _name(kind)}


def as_json(tree: Tree) -> Any:
    """A tree with nothing in it that JSON cannot hold.

    Bytes are ``{"$type": "bytes", "base64": …}``, NaN and infinities ``{"$type": "float", "value": "nan"}``, huge
    integers ``{"$type": "int", "hex": …}``, mappings with keys that are no texts ``{"$type": "dict", "items": …}``.
    """
    if isinstance(tree, bytes):
        return {TYPE: "bytes", "base64": base64.b64encode(tree).decode()}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {TYPE: "float", "value": str(tree)}
    if isinstance(tree, int) and tree.bit_length() > MAX_INT_BITS:
        return {TYPE: "int", "hex": hex(tree)}
    if isinstance(tree, list):
        return [as_json(each) for each in tree]
    if isinstance(tree, dict):
        if all(isinstance(key, str) for key in tree):
            return {key: as_json(each) for key, each in tree.items()}
        return {TYPE: "dict", "items": [[as_json(key), as_json(each)] for key, each in tree.items()]}
    return tree


def number(value: int) -> str:
    """An integer for people, however large."""
    return hex(value) if value.bit_length() > MAX_INT_BITS else str(value)
