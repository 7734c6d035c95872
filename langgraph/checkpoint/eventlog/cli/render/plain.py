"""Any value as a tree of what JSON has. It never fails, whatever the value is.

A tree consists of None, booleans, integers, floats, texts, lists, and mappings with texts as keys. Everything else is a
mapping that names its type under ``$type``; LangChain's messages are mappings of their fields, as they name their role
under ``type``. Dates, UUIDs, decimals, paths and the like are texts.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
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

from eventlog.format.strict import TYPE

__all__ = ["Tree", "as_tree"]

Tree: TypeAlias = Any

#: Nested deeper, a value is cut off: Python's own recursion has an end too.
MAX_DEPTH = 150

#: Integers beyond are written in hex: Python bounds how long a decimal integer it converts.
MAX_INT_BITS = 10_000

_TEXTS = (UUID, Decimal, PurePath, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ZoneInfo, timezone)


def as_tree(value: Any) -> Tree:
    """The tree of a value.

    Bytes are ``{"$type": "bytes", "base64": …}``, NaN and infinities ``{"$type": "float", "value": "nan"}``, huge
    integers ``{"$type": "int", "hex": …}``, mappings with other keys than texts ``{"$type": "dict", "items": …}``.
    """
    return _tree(value, 0, frozenset())


def _tree(value: Any, depth: int, above: frozenset[int]) -> Tree:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        return value if value.bit_length() <= MAX_INT_BITS else {TYPE: "int", "hex": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {TYPE: "float", "value": str(value)}
    if kind in (bytes, bytearray, memoryview):
        return {TYPE: "bytes", "base64": base64.b64encode(bytes(value)).decode()}
    if depth >= MAX_DEPTH or id(value) in above:
        return {TYPE: "left out", "why": "it contains itself" if id(value) in above else "nested too deep"}
    above = above | {id(value)}

    def inner(each: Any, levels: int = 1) -> Tree:
        return _tree(each, depth + levels, above)

    try:
        if kind in (list, tuple, deque):
            return [inner(each) for each in value]
        if kind is dict:
            return _mapping(value, inner)
        return _object(value, inner)
    except Exception as exc:
        # Classes are the user's where they are trusted, and their attributes and texts may raise anything.
        return {TYPE: _name(kind), "why": f"it cannot be looked at: {type(exc).__name__}"}


def _mapping(value: Mapping[Any, Any], inner: Callable[..., Tree]) -> Tree:
    if all(type(key) is str for key in value):
        return {key: inner(each) for key, each in value.items()}
    return {TYPE: "dict", "items": [[inner(key, 3), inner(each, 3)] for key, each in value.items()]}


def _object(value: Any, inner: Callable[..., Tree]) -> Tree:
    kind = type(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return {TYPE: _name(kind), "value": sorted((inner(each, 2) for each in value), key=json.dumps)}
    content = _mapping(_content(value), inner)
    if isinstance(value, BaseMessage) and kind.__module__.startswith("langchain_core."):
        return content
    # The name comes first, and no field can replace it.
    return {TYPE: None} | content | {TYPE: _name(kind)}


def _content(value: Any) -> Mapping[Any, Any]:
    """The fields of an object: those of its kind, the built-in value that it extends, its attributes, or its text."""
    if isinstance(value, Enum):
        return {"name": value.name, "value": value.value}
    if isinstance(value, timedelta):
        return {"seconds": value.total_seconds()}
    if isinstance(value, re.Pattern):
        return {"pattern": value.pattern, "flags": value.flags}
    if isinstance(value, BaseModel):
        return {**vars(value), **(value.__pydantic_extra__ or {})}
    if isinstance(value, BaseException):
        return {"message": str(value)}
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "_asdict"):
        return dict(value._asdict())
    base: Any
    for base in (str, int, float, bytes, list, tuple, deque):
        if isinstance(value, base):
            return {"value": base(value)}
    lists = [base.__dict__.get("__slots__", ()) for base in type(value).__mro__]
    slots = [name for each in lists for name in ([each] if isinstance(each, str) else each) if name[:2] != "__"]
    attributes = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**attributes, **getattr(value, "__dict__", {})} or {"value": repr(value)}


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
