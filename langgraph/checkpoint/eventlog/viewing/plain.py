"""Converting any value to a tree of JSON values. The conversion never fails.

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
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from eventlog.format.strict import TYPE

__all__ = ["LEFT_OUT", "Limits", "Tree", "as_tree"]

Tree: TypeAlias = Any

#: Nested deeper, a value is cut off: Python's own recursion has an end too.
MAX_DEPTH = 150

#: Integers beyond are written in hex: Python bounds how long a decimal integer it converts.
MAX_INT_BITS = 10_000

#: The type of what stands for what is not shown.
LEFT_OUT = "left out"

_TEXTS = (UUID, Decimal, PurePath, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ZoneInfo, timezone)


@dataclass(slots=True)
class Limits:
    """Limits of the shown values. A cut value says how much is missing."""

    text: int = 10_000
    """Characters of one text, and bytes of one binary value."""
    items: int = 200
    """Items of one list or mapping."""
    total: int = 500_000
    """Characters of all texts together, and `ITEM_CHARS` for each item. Beyond that, values are cut to very little."""
    is_cut: bool = False
    """Whether a value was cut since this was set to false."""

    def fresh(self) -> Limits:
        """A copy of the limits with its own, unused total."""
        return Limits(self.text, self.items, self.total)

    def take(self, length: int) -> int:
        """How many characters of a text may be shown."""
        shown = min(length, self.text, max(self.total, SHORTEST_TEXT))
        self.total -= shown
        self.is_cut = self.is_cut or shown < length
        return shown

    def take_items(self, length: int) -> int:
        """How many items of a list may be shown."""
        shown = min(length, self.items, max(self.total // ITEM_CHARS, FEWEST_ITEMS))
        self.total -= shown * ITEM_CHARS
        self.is_cut = self.is_cut or shown < length
        return shown


#: What an item counts beside its texts.
ITEM_CHARS = 10

#: What is shown of a text or a list when the total is used up.
SHORTEST_TEXT = 100
FEWEST_ITEMS = 3


def as_tree(value: Any, limits: Limits | None = None) -> Tree:
    """The tree of a value.

    Bytes are ``{"$type": "bytes", "base64": …}``, NaN and infinities ``{"$type": "float", "value": "nan"}``, huge
    integers ``{"$type": "int", "hex": …}``, mappings with other keys than texts ``{"$type": "dict", "items": …}``.

    Args:
        limits: cut what is longer. A text that is cut ends with ``… [N more characters]``, a list with an item
            ``{"$type": "left out", "why": "N more items"}``, a mapping with such an entry under an ellipsis.
    """
    return _tree(value, 0, frozenset(), limits)


def _tree(value: Any, depth: int, above: frozenset[int], limits: Limits | None) -> Tree:
    kind = type(value)
    if kind is str:
        return value if limits is None else _cut_text(value, limits)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if value.bit_length() <= MAX_INT_BITS else {TYPE: "int", "hex": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {TYPE: "float", "value": str(value)}
    if kind in (bytes, bytearray, memoryview):
        return _bytes(bytes(value), limits)
    if depth >= MAX_DEPTH or id(value) in above:
        return {TYPE: LEFT_OUT, "why": "it contains itself" if id(value) in above else "nested too deep"}
    above = above | {id(value)}

    def inner(each: Any, levels: int = 1) -> Tree:
        return _tree(each, depth + levels, above, limits)

    try:
        if kind in (list, tuple, deque):
            if limits is not None and (shown := limits.take_items(len(value))) < len(value):
                return [*(inner(each) for each in islice(value, shown)), _left_out(len(value) - shown)]
            return [inner(each) for each in value]
        if kind is dict:
            return _mapping(value, inner, limits)
        return _object(value, inner, limits)
    except Exception as exc:
        # With trusted types, classes are the user's, and their attributes and texts may raise any error.
        return {TYPE: _name(kind), "why": f"it cannot be looked at: {type(exc).__name__}"}


def _cut_text(text: str, limits: Limits) -> str:
    shown = limits.take(len(text))
    return text if shown == len(text) else f"{text[:shown]}… [{len(text) - shown:,} more characters]"


def _bytes(value: bytes, limits: Limits | None) -> Tree:
    shown = len(value) if limits is None else limits.take(len(value))
    tree = {TYPE: "bytes", "base64": base64.b64encode(value[:shown]).decode()}
    return tree if shown == len(value) else {**tree, "left_out": len(value) - shown}


def _left_out(count: int) -> Tree:
    return {TYPE: LEFT_OUT, "why": f"{count:,} more item{'' if count == 1 else 's'}"}


def _mapping(value: Mapping[Any, Any], inner: Callable[..., Tree], limits: Limits | None) -> Tree:
    shown = len(value) if limits is None else limits.take_items(len(value))
    more = len(value) - shown
    entries = islice(value.items(), shown) if more else value.items()
    if all(type(key) is str for key in value):
        tree = {key if limits is None else key[: limits.text]: inner(each) for key, each in entries}
        return {**tree, "…": _left_out(more)} if more else tree
    items = [[inner(key, 3), inner(each, 3)] for key, each in entries]
    return {TYPE: "dict", "items": [*items, [_left_out(more), None]] if more else items}


def _object(value: Any, inner: Callable[..., Tree], limits: Limits | None) -> Tree:
    kind = type(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, (set, frozenset)):
        shown = len(value) if limits is None else limits.take_items(len(value))
        members = sorted((inner(each, 2) for each in islice(value, shown)), key=json.dumps)
        return {
            TYPE: _name(kind),
            "value": members if shown == len(value) else [*members, _left_out(len(value) - shown)],
        }
    content = _mapping(_content(value), inner, limits)
    if isinstance(value, BaseMessage) and kind.__module__.startswith("langchain_core."):
        return content
    # The name comes first, and no field can replace it.
    return {TYPE: None} | content | {TYPE: _name(kind)}


def _content(value: Any) -> Mapping[Any, Any]:
    """The fields of an object: of its kind, of the built-in value that it extends, its attributes, or its text."""
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
