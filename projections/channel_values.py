"""The value of a channel after an event: the value before and the operation, put together when it is asked for.

A conversation that grew is an array with a longer count and more bytes at its end; the operation in the event says just
that (`eventlog.format.delta`): a splice with another header, all of the old value behind the old header, and new bytes
behind it. To see it one has to know of the old value its size and its first bytes, where msgpack keeps an array's
count, and these follow from the operations. So a history is told without a conversation being put together.

    header of an array    0x9n               up to 15 items
                          0xdc n n           up to 65,535
                          0xdd n n n n       more

A patch shows nothing by itself, nor does a list that was stored in full and has more items than before: then the bytes
are compared. What cannot be told is not guessed. An array inside of something else (a pydantic state) changed, whatever
happened in it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from eventlog.format.contents import Serialized
from eventlog.format.delta import Cross, Full, Operation, Splice, payload_bytes, value_after

__all__ = ["Appended", "ChannelValue", "appended", "length_in"]

#: Longest header of an array.
HEAD_BYTES = 5

#: A value behind so many splices is put together nevertheless, so as not to keep all of them.
LONGEST_CHAIN = 32

#: The serializer's tag for values that begin as msgpack does.
MSGPACK: Final = "msgpack"


class ChannelValue:
    """A serialized value.

    Args:
        op: made it, and is no drop.
        base: the value before, of the same channel or of the `Cross`'s source.
        limit: the most bytes that decompressing may produce.

    Raises:
        ValueError, zstandard.ZstdError: when the operation does not fit.
    """

    __slots__ = ("_base", "_limit", "_op", "depth", "head", "size", "type")

    size: int
    head: bytes
    """Its first bytes: all that a header of an array may have."""
    depth: int
    """Behind how many splices it is."""

    def __init__(self, op: Operation, base: ChannelValue | None, limit: int) -> None:
        self._op, self._base, self._limit = op.inner if type(op) is Cross else op, base, limit
        self.depth = 0
        if type(self._op) is Splice and base is not None and base.depth < LONGEST_CHAIN:
            self.type, header, offset, prefix, inserted, suffix = self._op
            if offset + prefix + suffix > base.size:
                raise ValueError("splice does not fit its base")
            self.depth = base.depth + 1
            self.size = len(header) + prefix + len(inserted) + suffix
            kept = base.head[offset : offset + prefix]
            self.head = (header + kept + (inserted if len(kept) == prefix else b""))[:HEAD_BYTES]
            if len(self.head) == min(HEAD_BYTES, self.size):
                return
        if type(self._op) is not Full:
            self._op, self._base, self.depth = Full(*self.joined()), None, 0
        self.type, self.size, self.head = self._op.type, len(self._op.data), self._op.data[:HEAD_BYTES]

    def joined(self) -> Serialized:
        """The value, put together."""
        operations: list[Operation] = []
        each: ChannelValue | None = self
        while each is not None:
            operations.append(each._op)
            each = each._base
        return value_after(reversed(operations), None, self._limit)

    @property
    def kept_bytes(self) -> int:
        """About how much memory it takes, its base aside."""
        return 100 + payload_bytes(self._op)

    @property
    def array(self) -> tuple[int, int] | None:
        """The number of items and the size of the header, of a msgpack array."""
        return _array(self.type, self.head)

    @property
    def length(self) -> int | None:
        """The number of items, of a msgpack array."""
        return None if self.array is None else self.array[0]


def _array(type_: str, head: bytes) -> tuple[int, int] | None:
    if type_ != MSGPACK or not head:
        return None
    if head[0] & 0xF0 == 0x90:
        return head[0] & 0x0F, 1
    size = {0xDC: 3, 0xDD: 5}.get(head[0])
    return None if size is None or len(head) < size else (int.from_bytes(head[1:size], "big"), size)


def length_in(op: Operation) -> int | None:
    """How many items a list has, as far as an operation tells it without the value before."""
    if type(op) is Cross:
        op = op.inner
    if type(op) is Full:
        array = _array(op.type, op.data[:HEAD_BYTES])
    elif type(op) is Splice:
        array = _array(op.type, op.header if op.prefix else op.header + op.inserted)
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
        return Serialized(MSGPACK, b"\xdd" + self.items.to_bytes(4, "big") + self.data)


def appended(op: Operation, before: ChannelValue, after: ChannelValue) -> Appended | None:
    """What an operation appended to an array; None when it did something else.

    Raises:
        ValueError, zstandard.ZstdError: when an operation does not fit.
    """
    if (old := before.array) is None or (new := after.array) is None or new[0] <= old[0]:
        return None
    (count, header_size), (new_count, new_header_size) = old, new
    if (
        type(op) is Splice
        and op.suffix == 0
        # All behind the old header is kept, and stands behind the new one.
        and len(op.header) <= new_header_size
        and len(op.header) - op.offset == new_header_size - header_size
        and op.offset + op.prefix == before.size
    ):
        return Appended(new_count - count, op.inserted)
    kept, found = before.joined().data[header_size:], after.joined().data[new_header_size:]
    return Appended(new_count - count, found[len(kept) :]) if found.startswith(kept) else None
