"""An event's effect on a channel, determined from the operation and from the value before, which is kept in pieces.

A conversation that grew is an array with a greater count and more bytes at its end. The event's operation shows this
(`eventlog.format.delta`): a splice with another header, the complete old value behind the old header, and new bytes
after it. To recognise it, the reader needs only the old value's size and first bytes, where msgpack keeps the count.
Both follow from the operations, so a history never has to put a conversation together.

    header of an array    0x9n               up to 15 items
                          0xdc n n           up to 65,535
                          0xdd n n n n       more

A patch does not show its effect, nor does a list that was stored in full and has more items than before. For these the
bytes are compared. An array inside of another value (a pydantic state) counts as `changed`, whatever happened in it.
"""

from __future__ import annotations

from typing import NamedTuple

from eventlog.format.contents import Serialized
from eventlog.format.delta import Cross, Full, Operation, Splice
from eventlog.format.rope import Value
from eventlog.format.strict import MSGPACK_TAG

__all__ = ["HEAD_BYTES", "Appended", "appended", "array_header", "length_in", "length_of"]

#: Longest header of an array.
HEAD_BYTES = 5


def length_of(value: Value) -> int | None:
    """The number of items, of a msgpack array."""
    array = array_header(value[0], value[1].head(HEAD_BYTES))
    return None if array is None else array[0]


def array_header(type_: str, head: bytes) -> tuple[int, int] | None:
    """The number of items and the size of the header, of a msgpack array."""
    if type_ != MSGPACK_TAG or not head:
        return None
    if head[0] & 0xF0 == 0x90:
        return head[0] & 0x0F, 1
    size = {0xDC: 3, 0xDD: 5}.get(head[0])
    return None if size is None or len(head) < size else (int.from_bytes(head[1:size], "big"), size)


def length_in(op: Operation) -> int | None:
    """The number of items of a list, if the operation alone shows it; else None."""
    if type(op) is Cross:
        op = op.inner
    if type(op) is Full:
        array = array_header(op.type, op.data[:HEAD_BYTES])
    elif type(op) is Splice:
        array = array_header(op.type, op.header if op.prefix else op.header + op.inserted)
    else:
        array = None
    return None if array is None else array[0]


class Appended(NamedTuple):
    """Items at the end of an array that was otherwise left as it was."""

    items: int
    data: bytes
    """One behind the other, as msgpack."""

    @property
    def value(self) -> Serialized:
        """The items as an array of their own."""
        return Serialized(MSGPACK_TAG, b"\xdd" + self.items.to_bytes(4, "big") + self.data)


def appended(op: Operation, before: Value, after: Value) -> Appended | None:
    """The items that an operation appended to an array; None when it did something else.

    Raises ValueError, zstandard.ZstdError when an operation does not fit.
    """
    old, new = (array_header(type_, rope.head(HEAD_BYTES)) for type_, rope in (before, after))
    if old is None or new is None or new[0] <= old[0]:
        return None
    (count, header_size), (new_count, new_header_size) = old, new
    if (
        type(op) is Splice
        and op.suffix == 0
        # The old value without its header is kept, directly after the new header.
        and len(op.header) <= new_header_size
        and len(op.header) - op.offset == new_header_size - header_size
        and op.offset + op.prefix == len(before[1])
    ):
        return Appended(new_count - count, op.inserted)
    kept, found = before[1].join()[header_size:], after[1].join()[new_header_size:]
    return Appended(new_count - count, found[len(kept) :]) if found.startswith(kept) else None
