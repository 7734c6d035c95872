"""Values: from what a graph keeps to a type tag and bytes, and back, by the user's serializer.

Bodies (`eventlog.format.codec`) hold the result and do not look into it.
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

__all__ = [
    "dumps",
    "dumps_fields",
    "format_of",
    "loads",
    "loads_fields",
    "split_serializer",
]

#: Type tags of our own, for what msgpack-based serializers refuse or alter: see `dumps`.
INT_TAG: Final = "eventlog.int"
STR_TAG: Final = "eventlog.str"
JSON_TAG: Final = "eventlog.json"


def split_serializer(serde: SerializerProtocol) -> tuple[SerializerProtocol, CipherProtocol | None]:
    """A serializer's plain part and its cipher, if it is LangGraph's encrypting wrapper.

    A subclass may do something else with its bytes: it stays whole.
    """
    if type(serde) is EncryptedSerializer:
        return serde.serde, serde.cipher
    return serde, None


def dumps(serde: SerializerProtocol, value: Any, what: str) -> Serialized:
    """Serialize a value.

    LangGraph's serializer refuses integers beyond 64 bits and silently alters texts with lone surrogates. A value that
    is one of these is ours, and so is plain data (what JSON holds exactly) that the serializer refuses. Raises
    SerializationError, naming `what`, when the serializer refuses.
    """
    if type(value) is int and not -(1 << 63) <= value < (1 << 64):
        # In hex: Python bounds how long a decimal integer it converts.
        return Serialized(INT_TAG, hex(value).encode())
    if type(value) is str and not value.isascii():
        data = value.encode("utf-8", "surrogatepass")
        if not _is_utf8(data):
            return Serialized(STR_TAG, data)
    try:
        type_, data = serde.dumps_typed(value)
    except Exception as exc:
        # Serializers are the user's: whatever they raise means that they cannot store this value.
        if type(value) in (dict, list) and (plain := _dumps_json(value)) is not None:
            return plain
        raise SerializationError(f"the serializer refused {what}: {type(exc).__name__}: {exc}") from exc
    return Serialized(type_, bytes(data))


def dumps_fields(serde: SerializerProtocol, value: dict[str, Any], what: str) -> Serialized:
    """As `dumps`, for a checkpoint's fields and metadata: small, and exact even where texts in them are broken.

    Raises SerializationError, naming `what`, when the serializer refuses.
    """
    try:
        ormsgpack.packb(value)
    except TypeError:
        # Something is in it that is no plain data, or a broken text.
        plain = _dumps_json(value)
        if plain is not None and not _is_utf8(plain.data):
            return plain
    return dumps(serde, value, what)


def _is_utf8(data: bytes) -> bool:
    """Whether a text that was encoded with its lone surrogates has none."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _dumps_json(value: Any) -> Serialized | None:
    """Plain data as JSON; None when it is not plain, or beyond what Python writes (depth, digits)."""
    try:
        if not _is_plain(value):
            return None
        # Not as ASCII: two escaped surrogates that happen to stand side by side would be read as one character.
        return Serialized(JSON_TAG, json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    except (RecursionError, ValueError):
        return None


def _is_plain(value: Any) -> bool:
    """Whether JSON, as Python reads and writes it, gives back exactly this value."""
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    if type(value) is list:
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def loads(serde: SerializerProtocol, value: Serialized, context: object) -> Any:
    """The value that `dumps` was given.

    What LangGraph's serializer makes nothing of was not written by it. Other serializers' errors pass through, and what
    unpickling raises: the code may have changed, and not the bytes. Raises LogCorruptedError beginning with `context`,
    for bytes that are not what their type tag says.
    """
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
    """What `dumps_fields` was given. Errors as those of `loads`, and the same for what is no mapping."""
    return _fields(loads(serde, value, context), context)


def format_of(fields: Any, context: object) -> int:
    """The version of LangGraph's format that a checkpoint's own fields are of. Raises LogCorruptedError."""
    version = _fields(fields, context).get("v", 0)
    if not isinstance(version, int):
        raise LogCorruptedError(f"{context} does not decode: {type(version).__name__} is no version of a checkpoint")
    return version


def _fields(found: Any, context: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise LogCorruptedError(f"{context} does not decode: expected a mapping, found {type(found).__name__}")
    return found
