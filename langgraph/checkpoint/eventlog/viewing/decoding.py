"""Decoding for viewers. No code runs that the data names. An undecodable value does not hide others. Only the shown
items of a long list are decoded.

    {"$type": "undecodable", "serialized_as": …, "why": …, "data": …}    stands for a value that does not decode
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from eventlog.format.contents import Serialized
from eventlog.format.strict import MSGPACK_TAG, PICKLE_TAG, TYPE, strict
from eventlog.format.values import split_serializer
from projections.channel_values import HEAD_BYTES, array_header

__all__ = ["UNDECODABLE", "Lenient", "Piece", "lenient", "pieces", "undecodable"]

UNDECODABLE: Final = "undecodable"


def undecodable(type_: str, data: bytes, why: str) -> dict[str, Any]:
    """The placeholder of a value that does not decode."""
    return {TYPE: UNDECODABLE, "serialized_as": type_, "why": why, "data": data}


class Lenient(SerializerProtocol):
    """A serializer that reads like another one and never fails. It does not load pickles, which run code."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """As the other one."""
        return self._serde.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value, or its placeholder if it does not decode."""
        type_, stored = data
        if type_ == PICKLE_TAG:
            return undecodable(type_, stored, "pickles run code as they load: they are not loaded")
        try:
            return self._serde.loads_typed(data)
        except Exception as exc:
            # Serializers may raise any error; one undecodable value must not hide the others.
            return undecodable(type_, stored, f"{type(exc).__name__}: {exc}")


def lenient(serde: SerializerProtocol) -> SerializerProtocol:
    """The serializer of a viewer: it builds only the types of LangGraph's strict list and of the allow-list."""
    plain, cipher = split_serializer(strict(serde))
    return Lenient(plain) if cipher is None else EncryptedSerializer(cipher, Lenient(plain))


#: The number of items of a list that are skipped over to find its ends.
MOST_ITEMS = 1_000_000


class Piece(NamedTuple):
    """The beginning and the end of a list, each as a list of its own."""

    head: Serialized
    tail: Serialized
    length: int
    """How many items the whole list has."""


def pieces(value: Serialized, items: int) -> Piece | None:
    """A long list's first and last items, found without decoding it; None for other values and short lists.

    This is possible only if the items contain their own length, as objects do (a conversation). Other lists and the
    longest ones must be decoded.
    """
    data = value.data
    header = array_header(value.type, data[:HEAD_BYTES])
    if header is None or not 2 * items < header[0] <= MOST_ITEMS:
        return None
    length, place = header
    first_item, behind_head, count, end = place, 0, 0, len(data)
    last: deque[int] = deque(maxlen=items)
    while place < end and count < length:
        if count == items:
            behind_head = place
        last.append(place)
        count += 1
        size = _item_size(data, place)
        if size is None:
            return None
        place += size
    if place != end or count != length:
        return None
    of_piece = b"\xdd" + items.to_bytes(4, "big")
    head = Serialized(MSGPACK_TAG, of_piece + data[first_item:behind_head])
    tail = Serialized(MSGPACK_TAG, of_piece + data[last[0] :])
    return Piece(head, tail, length)


#: msgpack's extensions, texts and bytes by their first byte: how many bytes their size takes, and what follows it
#: beside the content (an extension's type).
_SIZED: Final = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)} | {
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),
}
#: Those of a fixed size, with their total size.
_FIXED: Final = {
    **dict.fromkeys((0xC0, 0xC2, 0xC3), 1),
    **dict.fromkeys((0xCC, 0xD0), 2),
    **dict.fromkeys((0xCD, 0xD1), 3),
    **dict.fromkeys((0xCA, 0xCE, 0xD2), 5),
    **dict.fromkeys((0xCB, 0xCF, 0xD3), 9),
    0xD4: 3,
    0xD5: 4,
    0xD6: 6,
    0xD7: 10,
    0xD8: 18,
}


def _item_size(data: bytes, place: int) -> int | None:
    """The size in bytes of an item of a msgpack array; None for arrays and mappings, which do not contain it."""
    first = data[place]
    if first < 0x80 or first >= 0xE0:
        return 1
    if 0xA0 <= first < 0xC0:
        return 1 + first - 0xA0
    if (sized := _SIZED.get(first)) is not None:
        width, more = sized
        return 1 + width + more + int.from_bytes(data[place + 1 : place + 1 + width], "big")
    return _FIXED.get(first)
