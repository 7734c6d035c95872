"""Decoding values of unknown writers without running code that a value names.

A stored value may name any class or function of any module, and LangGraph's serializer imports and calls it by default.
`StrictSerializer` lets LangGraph's serializer build only the types of its own strict list (messages, dates, sets and
the like) and the allowed ones. All other objects become plain data before that serializer sees them:

    {"$type": "package.module.Class", field: value, …}      an object of a type that is not on the list
    {"$type": "package.module.Class", "value": …}           one that is made from a single value, such as an enum's

LangGraph's own strict mode would be as safe, but it drops the names of the types that it refuses, and some values that
it cannot build.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.format.msgpack_guard import check

__all__ = ["MSGPACK_TAG", "PICKLE_TAG", "TYPE", "StrictSerializer", "as_plain_data", "strict"]

#: Type tags of LangGraph's serializer.
MSGPACK_TAG: Final = "msgpack"
PICKLE_TAG: Final = "pickle"

#: The key with the name of the type, in data that replaces an object.
TYPE: Final = "$type"

#: LangGraph's msgpack extensions by how they create objects. 0 to 2: call a class with one value, several, or keywords.
#: 3: call a method. 4, 5: a pydantic model. 6: a numpy array. 7: a snapshot of a delta channel.
_METHOD: Final = 3
_CONSTRUCTED: Final = range(6)
_ARRAY: Final = 6
_DELTA_SNAPSHOT: Final = 7

_OPTION: Final = ormsgpack.OPT_NON_STR_KEYS

#: Never built, although on LangGraph's list: compiling an untrusted pattern may take long.
_LEFT: Final = frozenset({("re", "compile")})
_SETS: Final = frozenset({("builtins", "set"), ("builtins", "frozenset")})


class StrictSerializer(SerializerProtocol):
    """LangGraph's serializer, limited to the types on a list, regardless of ``LANGGRAPH_STRICT_MSGPACK``.

    Args:
        allow: modules and names to build beside those on LangGraph's strict list.
        pickle_fallback: load pickles, which run code. Otherwise they raise NotImplementedError.
    """

    def __init__(self, allow: Iterable[tuple[str, ...]] = (), *, pickle_fallback: bool = False) -> None:
        self.allow = frozenset(allow)
        self.pickle_fallback = pickle_fallback
        self._types = SAFE_MSGPACK_TYPES | self.allow
        self._inner = JsonPlusSerializer(
            allowed_msgpack_modules=tuple(self.allow) or None, pickle_fallback=pickle_fallback
        )

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """As LangGraph's serializer."""
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value, with plain data instead of the objects that are not built."""
        type_, stored = data
        if type_ == "json":
            # LangChain's objects in it stay data.
            return json.loads(stored)
        if type_ == MSGPACK_TAG:
            check(stored)
            found: list[int] = []
            plain = self._unpack(stored, found)
            if not found:
                return plain
            stored = ormsgpack.packb(plain, option=_OPTION)
        return self._inner.loads_typed((type_, stored))

    def _unpack(self, data: bytes, found: list[int]) -> Any:
        """Plain data, with extensions for the objects to build; `found` gets the code of each extension."""

        def leave(code: int, data: bytes) -> Any:
            found.append(code)
            return self._leave(code, data, found)

        return ormsgpack.unpackb(data, ext_hook=leave, option=_OPTION)

    def _leave(self, code: int, data: bytes, found: list[int]) -> Any:
        """An extension unchanged if it may be built, else as data."""
        if code == _DELTA_SNAPSHOT:
            return ormsgpack.Ext(code, ormsgpack.packb(self._unpack(data, found), option=_OPTION))
        if code == _ARRAY:
            dtype, shape, order, buffer = self._unpack(data, found)
            return {TYPE: "numpy.ndarray", "dtype": dtype, "shape": shape, "order": order, "data": buffer}
        if code not in _CONSTRUCTED:
            return {TYPE: f"msgpack extension {code}", "value": data}
        content = self._unpack(data, found)
        module, name, payload = content[:3]
        if self._is_buildable(code, module, name, payload, content[3:]):
            return ormsgpack.Ext(code, ormsgpack.packb(content, option=_OPTION))
        return _as_data(f"{module}.{name}", payload)

    def _allows(self, module: Any, name: Any) -> bool:
        return (module, name) in self._types

    def _is_buildable(self, code: int, module: Any, name: Any, payload: Any, more: list[Any]) -> bool:
        key = (module, name)
        if code == _METHOD:
            return (*key, *more) in SAFE_MSGPACK_METHODS
        if not self._allows(module, name):
            return False
        # LangGraph would lose a set that now has lists or mappings as members, and objects of missing modules.
        is_lost = key in _SETS and any(isinstance(each, (dict, list)) for each in payload)
        return key not in _LEFT and not is_lost and (module in sys.modules or _is_there(module))


def strict(serde: SerializerProtocol) -> SerializerProtocol:
    """The serializer for readers: LangGraph's own builds only the types of its strict list and of its allow-list.

    Its default list allows every type. Other serializers, and LangGraph's with a user's hook, are returned unchanged.
    """
    # A context's readers are cached by serializer: the same serializer must get the same result.
    own: Any = serde
    return _strict(own) if type(serde) in (EncryptedSerializer, JsonPlusSerializer) else serde


@lru_cache(64)
def _strict(serde: Any) -> SerializerProtocol:
    if type(serde) is EncryptedSerializer:
        return EncryptedSerializer(serde.cipher, strict(serde.serde))
    if serde._custom_unpack_ext_hook:
        return serde  # type: ignore[no-any-return]
    allowed = serde._allowed_msgpack_modules
    return StrictSerializer(allowed if isinstance(allowed, set) else (), pickle_fallback=serde.pickle_fallback)


@lru_cache(64)
def _plain(*, pickle_fallback: bool) -> StrictSerializer:
    return StrictSerializer(pickle_fallback=pickle_fallback)


def as_plain_data(serde: SerializerProtocol) -> SerializerProtocol:
    """A serializer without encryption that builds the same values from the same bytes, regardless of the allowed
    types."""
    if type(serde) is StrictSerializer or (type(serde) is JsonPlusSerializer and not serde._custom_unpack_ext_hook):
        return _plain(pickle_fallback=serde.pickle_fallback)
    return serde


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
