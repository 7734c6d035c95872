"""What an event did to a channel, told from its operation and not from the value.

A conversation that grew is an array with a longer count and more bytes at its end; the operation in the event says just
that (`eventlog.format.delta`): a splice with another header, all of the old value behind the old header, and new bytes
behind it. To see it one has to know of the old value its size and its first bytes, where msgpack keeps an array's
count, and nothing else. That is its *shape*, and shapes follow from each other: the shape after an event, from the one
before and the operation. So a history is told without a single value being put together.

    header of an array    0x9n               up to 15 items
                          0xdc n n           up to 65,535
                          0xdd n n n n       more

Small values are kept whole. A list of two messages is stored in full and not as a difference from the list of one, and
shows only by its bytes that one was appended. A patch shows nothing by itself: it takes the value before, which has to
be read when it is not small. So it is with a list that was stored in full and has more items than before.

What cannot be told is not guessed. An array inside of something else (a pydantic state) changed, whatever happened in
it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from eventlog.format.contents import Serialized
from eventlog.format.delta import Cross, Full, Operation, Patch, Splice, value_after

__all__ = ["Appended", "Shape", "appended", "array_of", "is_determined", "shape_after", "shape_of"]

#: Longest header of an array.
HEAD_BYTES = 5

#: Values up to this size are kept whole: a conversation of a few messages.
SMALL_BYTES = 8192

#: The serializer's tag for values that begin as msgpack does.
MSGPACK: Final = "msgpack"


class Shape(NamedTuple):
    """What is known of a serialized value."""

    type: str
    size: int | None
    """In bytes; None: not known."""
    head: bytes
    """Its first bytes, as far as they are known."""
    raw: bytes | None = None
    """All of it, when it is small."""

    @property
    def array(self) -> tuple[int, int] | None:
        """The number of items and the size of the header, of a msgpack array whose header is known."""
        head = self.head
        if self.type != MSGPACK or not head:
            return None
        if head[0] & 0xF0 == 0x90:
            return head[0] & 0x0F, 1
        size = {0xDC: 3, 0xDD: 5}.get(head[0])
        if size is None or len(head) < size:
            return None
        return int.from_bytes(head[1:size], "big"), size

    @property
    def is_complete(self) -> bool:
        """Whether enough is known to tell most of what may happen to it next."""
        if self.size is None or (self.size <= SMALL_BYTES and self.raw is None):
            return False
        return self.type != MSGPACK or (
            bool(self.head) and (self.head[0] not in (0xDC, 0xDD) or self.array is not None)
        )

    @property
    def items(self) -> int | None:
        """The number of items, when it is an array as far as is known."""
        array = self.array
        return None if array is None else array[0]


#: Of a value of which nothing is known.
_NOTHING = Shape("", None, b"")


class Appended(NamedTuple):
    """Items at the end of an array that was otherwise left as it was."""

    items: int
    data: bytes
    """One behind the other, as msgpack."""


def shape_of(value: Serialized) -> Shape:
    """The shape of a value that is at hand."""
    data = value.data
    return Shape(value.type, len(data), data[:HEAD_BYTES], data if len(data) <= SMALL_BYTES else None)


def array_of(found: Appended) -> Serialized:
    """The items that were appended, as an array of their own."""
    return Serialized(MSGPACK, b"\xdd" + found.items.to_bytes(4, "big") + found.data)


def shape_after(op: Operation, base: Shape | None, limit: int) -> tuple[Shape, bytes | None]:
    """The shape of a value after an operation that is not a drop, and the value, where the operation tells all of it.

    Args:
        base: of the value before; None: there was none, or it was another channel's.
        limit: the most bytes that decompressing may produce.

    Raises:
        ValueError, zstandard.ZstdError: when the operation does not fit.
    """
    base = base or _NOTHING
    if type(op) is Cross:
        op = op.inner
    if type(op) is Full or base.raw is not None:
        value = value_after([op], None if base.raw is None else Serialized(base.type, base.raw), limit)
        return shape_of(value), value.data
    if type(op) is Patch:
        return Shape(op.type, None, b""), None
    if type(op) is not Splice:
        raise ValueError("a drop leaves no value")
    type_, header, offset, prefix, inserted, suffix = op
    if base.size is not None and offset + prefix + suffix > base.size:
        raise ValueError("splice does not fit its base")
    kept = base.head[offset : offset + prefix]
    head = header + kept + (inserted if len(kept) == prefix else b"")
    return Shape(type_, len(header) + prefix + len(inserted) + suffix, head[:HEAD_BYTES]), None


def is_determined(op: Operation, base: Shape | None, limit: int) -> bool:
    """Whether of the value before is known all that it takes to tell what an operation does to it.

    Args:
        base: of the value before, in the same channel; None: there was none.
        limit: the most bytes that decompressing may produce.

    Raises:
        ValueError, zstandard.ZstdError: when the operation does not fit.
    """
    if base is None or base.raw is not None:
        return True
    if not base.is_complete or type(op) is Patch:
        return False
    after = shape_after(op, base, limit)[0].array
    if type(op) is Full and base.array is not None and after is not None and after[0] > base.array[0]:
        # A list that grew by much that does not compress is stored in full; only the old bytes show what was kept.
        return False
    # A count may stand in bytes of the old value behind those that are known.
    return len(base.head) == HEAD_BYTES or after is not None


def appended(op: Operation, base: Shape | None, new: Shape, value: bytes | None) -> Appended | None:
    """What an operation appended to an array; None when it did something else, or that cannot be told.

    Args:
        base: of the value before, in the same channel.
        new, value: of the value after, from `shape_after`.
    """
    if base is None or (before := base.array) is None or (after := new.array) is None:
        return None
    (count, header_size), (new_count, new_header_size) = before, after
    if new_count <= count:
        return None
    if base.raw is not None and value is not None:
        kept = base.raw[header_size:]
        start, end = new_header_size, new_header_size + len(kept)
        return Appended(new_count - count, value[end:]) if value[start:end] == kept else None
    if (
        type(op) is Splice
        and op.suffix == 0
        # All behind the old header is kept, and stands behind the new one.
        and len(op.header) <= new_header_size
        and len(op.header) - op.offset == new_header_size - header_size
        and op.offset + op.prefix == base.size
    ):
        return Appended(new_count - count, op.inserted)
    return None
