"""Decoding untrusted values: nothing runs that the data names.

A stored value may name any class or function of any module, and LangGraph's serializer, as it is set up by default,
imports and calls it: an attacker's code could run on an auditor's machine. `Decoder` lets LangGraph's serializer build
the types on its own strict list (messages, dates, sets and the like) and those that `--allow` adds. Everything else it
turns into plain data before that serializer sees it:

    {"$type": "package.module.Class", field: value, …}      an object of a type that is not on the list
    {"$type": "package.module.Class", "value": …}           one that is made from a single value, such as an enum's
    {"$type": "undecodable", "serialized_as": …, …}         a value that does not decode; pickles are never loaded

LangGraph's serializer alone would be as safe, but it drops the names of the types that it refuses, and some values that
it cannot build.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import InvalidInputError
from eventlog.format.msgpack_guard import check
from eventlog.format.values import MSGPACK_TAG

__all__ = ["TYPE", "UNDECODABLE", "Decoder", "allowed_types"]

#: The key that holds the name of a type in what stands for an object.
TYPE: Final = "$type"
UNDECODABLE: Final = "undecodable"

#: LangGraph's msgpack extensions, by how objects are made. 0 to 2: a class is called with one value, several, or
#: keywords. 3: a method is. 4, 5: a pydantic model. 6: a numpy array. 7: a snapshot of a delta channel.
_METHOD: Final = 3
_CONSTRUCTED: Final = range(6)
_ARRAY: Final = 6
_DELTA_SNAPSHOT: Final = 7

_OPTION: Final = ormsgpack.OPT_NON_STR_KEYS

#: Never built, though on LangGraph's list: shown as text anyway, and compiling a foreign pattern may take long.
_LEFT: Final = frozenset({("re", "compile")})
_SETS: Final = frozenset({("builtins", "set"), ("builtins", "frozenset")})

_ALLOWED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def allowed_types(texts: Iterable[str] | None) -> frozenset[tuple[str, str]]:
    """The modules and classes that `--allow` names, each as ``package.module:Class``; raises InvalidInputError."""
    for text in texts or ():
        if not _ALLOWED.fullmatch(text):
            raise InvalidInputError(f"--allow: {text!r} is not a class: write it as package.module:Class")
    return frozenset((module, name) for module, _, name in (text.partition(":") for text in texts or ()))


class Decoder(SerializerProtocol):
    """A serializer that reads, and never fails: what does not decode becomes data that says so.

    Args:
        allow: modules and classes to build beside those on LangGraph's strict list.
        trust: build whatever the data names. Only for data from people who may run code here.
    """

    def __init__(self, allow: frozenset[tuple[str, str]] = frozenset(), *, trust: bool = False) -> None:
        self._trust = trust
        self._types = SAFE_MSGPACK_TYPES | allow
        # Never pickles: they run code as they load.
        types: Any = True if trust else tuple(allow) or None
        self._inner = JsonPlusSerializer(
            allowed_json_modules=True if trust else None, allowed_msgpack_modules=types, pickle_fallback=False
        )
        self.refused: Counter[tuple[str, str]] = Counter()
        """Modules and names that were not on the list, and how many values had them."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """As LangGraph's serializer. (The command writes nothing with it; the protocol has it.)"""
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value, with data in the place of objects that are not built."""
        type_, stored = data
        try:
            if type_ == MSGPACK_TAG:
                check(stored)
            if self._trust:
                return self._inner.loads_typed(data)
            if type_ == "json":
                # LangChain's objects among it stay the data that they are stored as.
                return json.loads(stored)
            if type_ == MSGPACK_TAG:
                stored = ormsgpack.packb(self._unpack(stored), option=_OPTION)
            return self._inner.loads_typed((type_, stored))
        except Exception as exc:
            # Decoders raise what they like, and so do trusted classes; one such value must not hide the others.
            return {TYPE: UNDECODABLE, "serialized_as": type_, "why": f"{type(exc).__name__}: {exc}", "data": stored}

    def _unpack(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._leave, option=_OPTION)

    def _leave(self, code: int, data: bytes) -> Any:
        """An extension as it was where it may be built, or else as data."""
        if code == _DELTA_SNAPSHOT:
            return ormsgpack.Ext(code, ormsgpack.packb(self._unpack(data), option=_OPTION))
        if code == _ARRAY:
            dtype, shape, order, buffer = self._unpack(data)
            return {TYPE: "numpy.ndarray", "dtype": dtype, "shape": shape, "order": order, "data": buffer}
        if code not in _CONSTRUCTED:
            return {TYPE: f"msgpack extension {code}", "value": data}
        content = self._unpack(data)
        module, name, payload = content[:3]
        if self._is_buildable(code, module, name, payload, content[3:]):
            return ormsgpack.Ext(code, ormsgpack.packb(content, option=_OPTION))
        return _as_data(f"{module}.{name}", payload)

    def _is_buildable(self, code: int, module: Any, name: Any, payload: Any, more: list[Any]) -> bool:
        key = (module, name)
        if code == _METHOD:
            return (*key, *more) in SAFE_MSGPACK_METHODS
        if key not in self._types:
            self.refused[str(module), str(name)] += 1
            return False
        # LangGraph would lose a set that now has lists or mappings as members, and objects of modules that are missing.
        is_lost = key in _SETS and any(isinstance(each, (dict, list)) for each in payload)
        return key not in _LEFT and not is_lost and _is_there(module)


def _as_data(name: str, payload: Any) -> dict[Any, Any]:
    if isinstance(payload, Mapping):
        return {TYPE: name, **{key: value for key, value in payload.items() if key != TYPE}}
    return {TYPE: name, "value": payload}


@cache
def _is_there(module: str) -> bool:
    """Whether a module that may be imported can be found: LangGraph itself need not be installed."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
