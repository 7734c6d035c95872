"""Bytes in pieces: folding many edits of one value joins it once."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

__all__ = ["Rope", "Value"]


class Rope:
    """Bytes in pieces, cheap to edit at their ends."""

    __slots__ = ("_length", "_pieces")

    def __init__(self, data: bytes) -> None:
        self._pieces: deque[memoryview | bytes] = deque((data,))
        self._length = len(data)

    def splice(self, header: bytes, offset: int, prefix: int, inserted: bytes, suffix: int) -> None:
        """Edit in place. Raises ValueError if the edit does not fit the value."""
        if offset < 0 or prefix < 0 or suffix < 0 or offset + prefix + suffix > self._length:
            raise ValueError("splice does not fit its base")
        tail = self._cut_back(suffix)
        self._cut_back(self._length - offset - prefix)
        self._cut_front(offset)
        pieces = self._pieces
        if header:
            pieces.appendleft(header)
        if inserted:
            pieces.append(inserted)
        pieces.extend(tail)
        self._length = len(header) + prefix + len(inserted) + suffix

    def _cut_back(self, size: int) -> list[memoryview | bytes]:
        """Remove the last `size` bytes and return their pieces, in order."""
        taken: list[memoryview | bytes] = []
        self._length -= size
        while size:
            piece = self._pieces.pop()
            if len(piece) > size:
                view = memoryview(piece)
                self._pieces.append(view[:-size])
                piece = view[-size:]
            taken.append(piece)
            size -= len(piece)
        taken.reverse()
        return taken

    def _cut_front(self, size: int) -> None:
        self._length -= size
        while size:
            piece = self._pieces.popleft()
            if len(piece) > size:
                self._pieces.appendleft(memoryview(piece)[size:])
                return
            size -= len(piece)

    def __len__(self) -> int:
        return self._length

    @property
    def pieces(self) -> int:
        """The number of its pieces."""
        return len(self._pieces)

    def head(self, size: int) -> bytes:
        """Its first bytes, up to so many."""
        head = b""
        for piece in self._pieces:
            if len(head) == size:
                break
            head += piece[: size - len(head)]
        return head

    def copy(self) -> Rope:
        """A rope of its own with the same pieces."""
        copied = Rope(b"")
        copied._pieces = self._pieces.copy()
        copied._length = self._length
        return copied

    def join(self) -> bytes:
        """The whole value. The pieces are joined once: joining again is free."""
        first = self._pieces[0] if len(self._pieces) == 1 else None
        if type(first) is bytes:
            return first
        data = b"".join(self._pieces)
        self._pieces = deque((data,))
        return data


#: A value while operations are applied to it: its type tag and its bytes.
Value: TypeAlias = "tuple[str, Rope]"
