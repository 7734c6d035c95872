"""Values on their way into the log: below encryption, decoded once, and compared without a class's own `__eq__`.

Objects are equal if their serializations are, except for the order of a set's members: equal sets may differ in it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import LogCorruptedError, SerializationError
from eventlog.format.contents import Channels, Serialized
from eventlog.format.msgpack_guard import check
from eventlog.format.strict import MSGPACK_TAG, TYPE, StrictSerializer
from eventlog.format.values import dumps, loads, split_serializer

__all__ = ["ValueReader", "is_same"]

#: The number of decoded objects that are remembered.
MOST_DECODED = 200_000

#: Tells whether two objects, or an object and the data in its place, are equal.
SameObject: TypeAlias = Callable[[Any, Any], bool]

#: The classes, as LangGraph's msgpack names them, with members in no particular order.
_SETS = (["builtins", "set"], ["builtins", "frozenset"])

_double = struct.Struct(">d").pack


class ValueReader:
    """Converts values as a source stores them to values for the log's events.

    Args:
        serde: the log's serializer.
    """

    def __init__(self, serde: SerializerProtocol) -> None:
        self._plain, self._cipher = split_serializer(serde)
        self._decoded: set[int] = set()
        """Hashes of objects that were decoded."""
        self._known: dict[int, tuple[Serialized, Serialized]] = {}
        """Of the last checkpoint: by the identity of each stored value, the value and its decrypted form."""

    def channels(self, stored: Mapping[str, Serialized], where: str) -> Channels:
        """A checkpoint's values. A value that is the same object as in the checkpoint before was decoded then.

        Raises SerializationError, naming the channel, for a value that the log's serializer does not decode.
        """
        known: dict[int, tuple[Serialized, Serialized]] = {}
        channels: Channels = {}
        for channel, value in stored.items():
            pair = self._known.get(id(value))
            if pair is None:
                pair = value, self.value(value, f"{where}, channel {channel!r}")
            known[id(value)] = pair
            channels[channel] = pair[1]
        self._known = known
        return channels

    def value(self, stored: Serialized, where: str) -> Serialized:
        """One value. Raises SerializationError."""
        value = self._decrypted(stored, where)
        try:
            self._check(value, where)
        except Exception as exc:
            raise _refused(value, where, exc) from exc
        return value

    def decoded(self, value: Serialized, where: str) -> Any:
        """The decoded value, below encryption. Raises SerializationError."""
        try:
            return loads(self._plain, value, where)
        except Exception as exc:
            raise _refused(value, where, exc) from exc

    def _check(self, value: Serialized, where: str) -> None:
        """Decode a value, except objects in it that were decoded before, such as the messages of a conversation."""
        if value.type != MSGPACK_TAG or type(self._plain) not in (JsonPlusSerializer, StrictSerializer):
            loads(self._plain, value, where)
            return

        def hook(code: int, data: bytes) -> None:
            key = hash((code, data))
            if key not in self._decoded:
                loads(self._plain, Serialized(MSGPACK_TAG, ormsgpack.packb(ormsgpack.Ext(code, data))), where)
                if len(self._decoded) >= MOST_DECODED:
                    self._decoded.clear()
                self._decoded.add(key)

        check(value.data)
        ormsgpack.unpackb(value.data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)

    def _decrypted(self, stored: Serialized, where: str) -> Serialized:
        if self._cipher is None or "+" not in stored.type:
            return stored
        # As LangGraph's EncryptedSerializer takes it apart.
        type_, name = stored.type.split("+", 1)
        try:
            return Serialized(type_, bytes(self._cipher.decrypt(name, stored.data)))
        except Exception as exc:
            # Ciphers are the user's and may raise any error when the key or the data is wrong.
            raise SerializationError(f"{where}: decrypting it failed: {type(exc).__name__}: {exc}") from exc

    def is_decoded(self, value: Any, stored: Serialized, where: str) -> bool:
        """Whether a decrypted value of the log equals a source's decoded value, and decodes to the same."""
        found = loads(self._plain, stored, where)
        if _has_same_contents(dumps(self._plain, value, where), stored):
            return is_same(value, found, _are_known_as_same)
        # Data in the place of an object may lack parts of the object.
        return is_same(value, found, lambda one, other: type(one) is type(other) and self.is_same_object(one, other))

    def is_same_object(self, one: Any, other: Any) -> bool:
        """Whether two objects have the same serialization; `one` perhaps only after it was serialized and decoded.

        The log's serializer may turn an object into data, which is not compared further.
        """
        if type(one) is not type(other):
            return True
        where = "comparing"
        given, kept = (dumps(self._plain, each, where) for each in (one, other))
        if _has_same_contents(given, kept):
            return True
        # The bytes of a pickle depend on which parts of an object are the same object.
        again = dumps(self._plain, loads(self._plain, given, where), where)
        return _has_same_contents(again, kept)


def _refused(value: Serialized, where: str, exc: Exception) -> SerializationError:
    """The error for a value that the user's serializer refuses: no reader could decode it in the log."""
    return SerializationError(
        f"{where}: the log's serializer refuses a value of type {value.type!r}: {_reason(exc)}. Give the log the "
        "serializer that wrote it"
    )


def _reason(exc: Exception) -> str:
    """The serializer's own error."""
    cause = exc.__cause__ if isinstance(exc, LogCorruptedError) and exc.__cause__ is not None else exc
    return f"{type(cause).__name__}: {cause}"


def _are_known_as_same(_: Any, __: Any) -> bool:
    return True


def _has_same_contents(one: Serialized, other: Serialized) -> bool:
    """Whether two serializations are equal, except for the order of mappings and sets."""
    if one == other:
        return True
    if not one.type == other.type == MSGPACK_TAG:
        return False
    return is_same(_contents(one.data), _contents(other.data), _are_known_as_same)


def _contents(data: bytes) -> Any:
    """The content of msgpack, with a tuple in the place of each object: msgpack itself has no tuples."""

    def hook(code: int, inner: bytes) -> Any:
        content = _contents(inner)
        if isinstance(content, list) and content[:2] in _SETS and isinstance(content[2], list):
            content[2].sort(key=repr)
        return code, content

    return ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)


def is_same(one: Any, other: Any, is_same_object: SameObject) -> bool:
    """Whether two values have the same types and contents.

    NaN equals itself. Objects of other classes than Python's own types are compared by `is_same_object`, because their
    `__eq__` may do anything. So is an object with data that the log's serializer returned instead of building it.
    """
    if type(one) is not type(other):
        return type(other) is dict and TYPE in other and is_same_object(one, other)
    if one is None or type(one) in (str, int, bool, bytes):
        return bool(one == other)
    if type(one) is float:
        return _double(one) == _double(other) or (one != one and other != other)
    if type(one) is dict:
        if len(one) != len(other):
            return False
        if all(type(key) is str for keys in (one, other) for key in keys):
            return one.keys() == other.keys() and all(
                is_same(value, other[key], is_same_object) for key, value in one.items()
            )
        return _all_same(one, other, is_same_object) and _all_same(one.values(), other.values(), is_same_object)
    if type(one) in (list, tuple):
        return len(one) == len(other) and _all_same(one, other, is_same_object)
    return is_same_object(one, other)


def _all_same(some: Iterable[Any], others: Iterable[Any], is_same_object: SameObject) -> bool:
    return all(is_same(one, other, is_same_object) for one, other in zip(some, others, strict=True))
