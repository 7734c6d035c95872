"""Guards against msgpack that makes ormsgpack run out of memory, as an altered log may hold it.

A container begins with the number of its items. ormsgpack before 1.13.1 (the last one for Python 3.10 is 1.12.2)
allocates memory for all of them before it reads the first; if there is not enough, the process dies of a segmentation
fault. One changed byte is enough to declare four billion items. So with those versions, this module checks the data
first: all declared items must fit into the remaining bytes, of which each takes at least one.
"""

from __future__ import annotations

from typing import Any, Final

import ormsgpack

__all__ = ["check", "unpack"]


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in ormsgpack.__version__.split(".")[:3] if part.isdigit())


#: Whether ormsgpack needs this guard.
IS_FRAGILE: Final = _version() < (1, 13, 1)

#: If all possible counts in the data add up to at most so many times its length, memory suffices whatever they are.
_HARMLESS: Final = 4

#: LangGraph's extensions contain msgpack. Other extensions are decoded by the code that defines them.
_NESTED: Final = range(8)


# By first byte. Items: the bytes of the count, and the items for each counted one. Sized: the bytes of the size, and
# the bytes that follow in addition to it; an extension's type is the first of them. Fixed: the bytes that follow. Small
# containers and texts, which have their count in the first byte, are not listed.
_ITEMS: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_EXTENSIONS: Final = {
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD4: (0, 2), 0xD5: (0, 3), 0xD6: (0, 5), 0xD7: (0, 9), 0xD8: (0, 17),
}  # fmt: skip
_SIZED: Final = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0), **_EXTENSIONS}
_FIXED: Final = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8,
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
}  # fmt: skip


def unpack(data: bytes) -> Any:
    """The content of a body: plain data. Raises ValueError if it is not msgpack."""
    if IS_FRAGILE:
        _walk(bytes(data))
    return ormsgpack.unpackb(data)


def check(data: bytes) -> None:
    """Make sure that decoding a value does not kill the process.

    Raises ValueError if the checked part is not msgpack.
    """
    if IS_FRAGILE and not _is_harmless(data):
        _walk(data)


def _is_harmless(data: bytes) -> bool:
    """Whether memory suffices for everything that might be a count: most texts have hardly any such bytes."""
    room = _HARMLESS * len(data)
    for code, (size, _) in _ITEMS.items():
        at = data.find(code)
        while at >= 0:
            room -= int.from_bytes(data[at + 1 : at + 1 + size], "big")
            if room < 0:
                return False
            at = data.find(code, at + 1)
    return True


def _walk(data: bytes) -> None:
    """Walk through one value, and through LangGraph's extensions in it.

    Raises ValueError if more items are declared than the remaining bytes can hold.
    """
    regions = [(0, len(data))]
    while regions:
        at, end = regions.pop()
        wanted = 1
        while wanted:
            if wanted > end - at:
                raise ValueError(f"{wanted} items are to come in {end - at} bytes")
            wanted -= 1
            code = data[at]
            at += 1
            if code < 0x80 or code >= 0xE0:
                continue
            if code >= 0xA0 and code < 0xC0:
                at += code & 0x1F
            elif code < 0x90:
                wanted += 2 * (code & 0x0F)
            elif code < 0xA0:
                wanted += code & 0x0F
            elif code in _FIXED:
                at += _FIXED[code]
            elif code in _SIZED:
                width, more = _SIZED[code]
                size = more + int.from_bytes(data[at : at + width], "big")
                at += width
                if code in _EXTENSIONS and data[at : at + 1] and data[at] in _NESTED:
                    regions.append((at + 1, min(at + size, end)))
                at += size
            elif code in _ITEMS:
                width, each = _ITEMS[code]
                wanted += each * int.from_bytes(data[at : at + width], "big")
                at += width
            else:
                raise ValueError("a byte that msgpack does not use")
        if at > end:
            raise ValueError("it ends too early")
