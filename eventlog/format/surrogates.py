"""Texts with lone surrogates inside values: escaped when stored, and restored exactly when read.

Broken text (half of a surrogate pair that a model streamed, a file name that is not UTF-8) has code points that UTF-8
cannot hold. LangGraph's serializer silently writes `?` instead. So before such a value is serialized, its texts are
escaped, in a copy that shares everything else:

    a lone surrogate U+D800 … U+DFFF     U+10FFFE, then U+E000 … U+E7FF
    U+10FFFE itself                      U+10FFFE, then "."

U+10FFFE is a noncharacter: Unicode promises that no text needs it. After decoding, the same walk undoes it.

The walk looks into what LangGraph's serializer looks into: containers, pydantic models, dataclasses, named tuples,
paths, `Send`s. An enum's member and a compiled pattern cannot be copied with another text: those are refused.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, TypeAlias

import ormsgpack
from pydantic import BaseModel

__all__ = ["UnescapableError", "escaped", "has_lone_surrogate", "is_utf8", "unescaped"]

ESCAPE: Final = "\U0010fffe"

#: The distance from a surrogate to its replacement.
_SHIFT: Final = 0xE000 - 0xD800

_TO_ESCAPE: Final = re.compile(f"[\ud800-\udfff{ESCAPE}]")
_TO_UNESCAPE: Final = re.compile(f"{ESCAPE}([.\ue000-\ue7ff])")

_LEAVES: Final = frozenset((type(None), bool, int, float, bytes, bytearray))

Change: TypeAlias = Callable[[str], str]
Part: TypeAlias = "tuple[str, Any]"


class UnescapableError(ValueError):
    """A text with a lone surrogate cannot be escaped at its place; the message is its path and the type there."""


def is_utf8(text: str) -> bool:
    """Whether a text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_lone_surrogate(value: Any) -> bool:
    """Whether a text in a value has a lone surrogate."""
    try:
        # Packing fails at the first one, and is much faster than serializing.
        ormsgpack.packb(value, default=_inside, option=_OPTION)
    except (TypeError, ValueError, RecursionError, AttributeError):
        return _find(value)
    return False


_OPTION: Final = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
)


def _inside(value: Any) -> Any:
    if isinstance(value, BaseModel):
        # It may be in a part that is not stored: `_find` checks.
        return value.__dict__, value.__pydantic_extra__
    return [each for _, each in _parts(value)]


def _find(value: Any) -> bool:
    found = False

    def look(text: str) -> str:
        nonlocal found
        found = found or not is_utf8(text)
        return text

    # Nested deeper than msgpack supports: the serializer refuses it.
    with suppress(RecursionError):
        _Walk(look).mapped(value, "")
    return found


def escaped(value: Any) -> Any:
    """A copy in which every text can be stored; a value without such texts is returned as the same object.

    Raises UnescapableError.
    """
    return _Walk(_escape).mapped(value, "")


def unescaped(value: Any) -> Any:
    """The value that was passed to `escaped`."""
    return _Walk(_unescape).mapped(value, "")


def _escape(text: str) -> str:
    if text.isascii():
        return text
    return _TO_ESCAPE.sub(lambda found: ESCAPE + (chr(ord(c) + _SHIFT) if (c := found[0]) != ESCAPE else "."), text)


def _unescape(text: str) -> str:
    if text.isascii() or ESCAPE not in text:
        return text
    return _TO_UNESCAPE.sub(lambda found: ESCAPE if found[1] == "." else chr(ord(found[1]) - _SHIFT), text)


class _Walk:
    """Copies values with changed texts."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._above: set[int] = set()

    def mapped(self, value: Any, path: str) -> Any:
        """The value with its texts changed; the same object if none was."""
        kind = type(value)
        if kind is str:
            return self._change(value)
        if kind in _LEAVES or id(value) in self._above:
            return value
        self._above.add(id(value))
        try:
            return self._mapped(value, path)
        finally:
            self._above.discard(id(value))

    def _mapped(self, value: Any, path: str) -> Any:
        if isinstance(value, (Enum, re.Pattern)):
            ((place, text),) = _parts(value)
            if self.mapped(text, path) is not text:
                raise UnescapableError(f"{path}{place}, in a {_name(type(value))}")
            return value
        if isinstance(value, str):
            text = str.__str__(value)
            changed = self._change(text)
            return value if changed == text else changed
        if isinstance(value, dict):
            items = [
                (self.mapped(key, f"{path}, the key {key!a}"), self.mapped(each, f"{path}[{key!a}]"))
                for key, each in value.items()
            ]
            same = all(new is key and one is each for (new, one), (key, each) in zip(items, value.items(), strict=True))
            return value if same else dict(items)
        if isinstance(value, BaseException):
            # The serializer keeps its `repr`.
            text = repr(value)
            changed = self._change(text)
            return value if changed == text else changed
        parts = list(_parts(value))
        found = [self.mapped(each, path + place) for place, each in parts]
        if all(new is old for new, (_, old) in zip(found, parts, strict=True)):
            return value
        if isinstance(value, (list, tuple, set, frozenset, deque)):
            make: Any = getattr(type(value), "_make", None) or _container(value)
            return make(found)
        if isinstance(value, PurePath):
            return type(value)(*found)
        return _with_attributes(value, {place[1:]: new for (place, _), new in zip(parts, found, strict=True)})


def _container(value: Any) -> type:
    # A subclass of a container is stored as the container, or created from its items.
    return next(each for each in (list, tuple, set, frozenset, deque) if isinstance(value, each))


def _parts(value: Any) -> Iterator[Part]:
    """The parts of a value that the serializer stores, each with its place, if the value is neither plain nor a
    mapping."""
    if isinstance(value, Enum):
        yield ".value", value.value
    elif isinstance(value, re.Pattern):
        yield ".pattern", value.pattern
    elif isinstance(value, BaseException):
        yield "", repr(value)
    elif isinstance(value, (list, tuple, deque)):
        yield from ((f"[{number}]", each) for number, each in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("{…}", each) for each in value)
    elif isinstance(value, PurePath):
        yield from ((f".parts[{number}]", each) for number, each in enumerate(value.parts))
    elif isinstance(value, BaseModel):
        fields = type(value).model_fields
        yield from ((f".{name}", each) for name, each in value.__dict__.items() if name in fields)
        yield from ((f".{name}", each) for name, each in (value.__pydantic_extra__ or {}).items())
    else:
        yield from ((f".{name}", getattr(value, name)) for name in _attributes(value) if hasattr(value, name))


def _attributes(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        return [each.name for each in dataclasses.fields(value)]
    slots = [base.__dict__.get("__slots__", ()) for base in type(value).__mro__]
    names = [name for each in slots for name in ([each] if isinstance(each, str) else each) if name[:2] != "__"]
    return [*names, *getattr(value, "__dict__", ())]


def _with_attributes(value: Any, attributes: dict[str, Any]) -> Any:
    made = copy.copy(value)
    if isinstance(made, BaseModel):
        # Bypasses validation and a frozen class: only a copy changes, not the user's object.
        extra = made.__pydantic_extra__ or {}
        for name, each in attributes.items():
            (extra if name in extra else made.__dict__)[name] = each
        return made
    for name, each in attributes.items():
        object.__setattr__(made, name, each)
    return made


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
