"""Values: a graph's objects as a type tag and bytes, by the user's serializer, and back.

Bodies (`eventlog.format.codec`) hold the result without decoding it.
"""

from __future__ import annotations

import json
from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import LogCorruptedError, SerializationError
from eventlog.format.contents import Serialized
from eventlog.format.msgpack_guard import check
from eventlog.format.strict import MSGPACK_TAG, PICKLE_TAG, StrictSerializer
from eventlog.format.surrogates import (
    UnescapableError,
    escaped,
    has_lone_surrogate,
    is_utf8,
    unescaped,
)

__all__ = [
    "dumps",
    "dumps_fields",
    "format_of",
    "loads",
    "loads_fields",
    "split_serializer",
]

#: Type tags for values that msgpack-based serializers refuse or alter: see `dumps`.
INT_TAG: Final = "eventlog.int"
STR_TAG: Final = "eventlog.str"
JSON_TAG: Final = "eventlog.json"

#: Before the type tag of a value with escaped texts (`eventlog.format.surrogates`).
ESCAPED_TAG: Final = "eventlog.escaped:"


def split_serializer(serde: SerializerProtocol) -> tuple[SerializerProtocol, CipherProtocol | None]:
    """A serializer's plain part and its cipher, if it is LangGraph's encrypting wrapper.

    A subclass may treat its bytes differently: it is not split.
    """
    if type(serde) is EncryptedSerializer:
        return serde.serde, serde.cipher
    return serde, None


def dumps(serde: SerializerProtocol, value: Any, what: str) -> Serialized:
    """Serialize a value.

    LangGraph's serializer refuses integers beyond 64 bits and silently alters texts with lone surrogates. Such a value
    gets a type tag of the package, and so does plain data (data that JSON holds exactly) that the serializer refuses.
    Texts with lone surrogates inside a value are escaped. Raises SerializationError, naming `what`, if the serializer
    refuses the value, and naming the path of a text that can be neither stored nor escaped.
    """
    if type(value) is int and not -(1 << 63) <= value < (1 << 64):
        # In hex: Python limits the length of decimal integers that it converts.
        return Serialized(INT_TAG, hex(value).encode())
    if type(value) is str and not value.isascii() and not is_utf8(value):
        return Serialized(STR_TAG, value.encode("utf-8", "surrogatepass"))
    try:
        type_, data = serde.dumps_typed(value)
    except Exception as exc:
        # Serializers are the user's: any error means that they cannot store this value.
        if type(value) in (dict, list) and (plain := _dumps_json(value)) is not None:
            return plain
        # LangGraph's serializer refuses them as keys of mappings.
        if isinstance(exc, TypeError) and has_lone_surrogate(value):
            return _dumps_escaped(serde, value, what)
        raise SerializationError(f"the serializer refused {what}: {type(exc).__name__}: {exc}") from exc
    data = bytes(data)
    # LangGraph's serializer writes "?" for a lone surrogate.
    if type_ == MSGPACK_TAG and b"?" in data and has_lone_surrogate(value):
        return _dumps_escaped(serde, value, what)
    return Serialized(type_, data)


def _dumps_escaped(serde: SerializerProtocol, value: Any, what: str) -> Serialized:
    try:
        type_, data = serde.dumps_typed(escaped(value))
    except UnescapableError as exc:
        raise SerializationError(
            f"{what} has a text with a lone surrogate, which UTF-8 cannot hold, at {exc}: replace it, as "
            "text.encode('utf-8', 'replace').decode() does"
        ) from exc
    except Exception as exc:
        raise SerializationError(f"the serializer refused {what}: {type(exc).__name__}: {exc}") from exc
    return Serialized(ESCAPED_TAG + type_, bytes(data))


def dumps_fields(serde: SerializerProtocol, value: dict[str, Any], what: str) -> Serialized:
    """Like `dumps`, for a checkpoint's fields and metadata: small, and exact even if texts in them are broken.

    Raises SerializationError, naming `what`, if the serializer refuses.
    """
    try:
        ormsgpack.packb(value)
    except TypeError:
        # It contains an object that is not plain data, or a broken text.
        plain = _dumps_json(value)
        if plain is not None and has_lone_surrogate(value):
            return plain
    return dumps(serde, value, what)


def _dumps_json(value: Any) -> Serialized | None:
    """Plain data as JSON; None if it is not plain, or beyond Python's limits (depth, digits)."""
    try:
        if not _is_plain(value):
            return None
        # Not as ASCII: two adjacent escaped surrogates would be read as one character.
        return Serialized(JSON_TAG, json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    except (RecursionError, ValueError):
        return None


def _is_plain(value: Any) -> bool:
    """Whether Python's JSON returns exactly this value."""
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    if type(value) is list:
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def loads(serde: SerializerProtocol, value: Serialized, context: object) -> Any:
    """The value that was passed to `dumps`.

    If LangGraph's serializer fails, it did not write the bytes. Errors of other serializers, and of unpickling, pass
    through: the user's code may have changed, and not the bytes. Raises LogCorruptedError beginning with `context`, for
    bytes that do not match their type tag.
    """
    if value.type.startswith(ESCAPED_TAG):
        inner = Serialized(value.type.removeprefix(ESCAPED_TAG), value.data)
        return unescaped(loads(serde, inner, context))
    try:
        if value.type == INT_TAG:
            return int(value.data.decode(), 0)
        if value.type == STR_TAG:
            return value.data.decode("utf-8", "surrogatepass")
        if value.type == JSON_TAG:
            return json.loads(value.data.decode("utf-8", "surrogatepass"))
        if type(serde) in (JsonPlusSerializer, StrictSerializer) and value.type != PICKLE_TAG:
            if value.type == MSGPACK_TAG:
                check(value.data)
            return serde.loads_typed((value.type, value.data))
    except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, RecursionError) as exc:
        what = f"a value of type {value.type!r}: {type(exc).__name__}: {exc}"
        raise LogCorruptedError(f"{context} does not decode: {what}") from exc
    return serde.loads_typed((value.type, value.data))


def loads_fields(serde: SerializerProtocol, value: Serialized, context: object) -> dict[str, Any]:
    """The mapping that was passed to `dumps_fields`. Raises as `loads`, and LogCorruptedError for anything but a
    mapping."""
    return _fields(loads(serde, value, context), context)


def format_of(fields: Any, context: object) -> int:
    """The version of LangGraph's format in a checkpoint's own fields. Raises LogCorruptedError."""
    version = _fields(fields, context).get("v", 0)
    if not isinstance(version, int):
        raise LogCorruptedError(f"{context} does not decode: {type(version).__name__} is not a version of a checkpoint")
    return version


def _fields(found: Any, context: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise LogCorruptedError(f"{context} does not decode: expected a mapping, found {type(found).__name__}")
    return found
