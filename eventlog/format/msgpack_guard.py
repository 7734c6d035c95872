"""msgpack from the log, opened without taking more memory than it is worth, whatever became of it.

A container begins with the number of its items. ormsgpack before 1.13.1 (the last one for Python 3.10 is 1.12.2) makes
room for all of them before it looks for the first, and where there is no such room, the process dies of a segmentation
fault: it takes one changed byte to promise four billion items. So with those versions, what is about to be opened is
looked through here: all items that are promised must fit into the bytes that are left, of which each takes one.
"""

from __future__ import annotations

from typing import Any, Final

import ormsgpack

__all__ = ["check", "unpack"]


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in ormsgpack.__version__.split(".")[:3] if part.isdigit())


#: Whether ormsgpack has to be kept from what it cannot bear.
IS_FRAGILE: Final = _version() < (1, 13, 1)

#: All counts that may be in some bytes may add up to so many times as many: whatever they are, there is room for them.
_HARMLESS: Final = 4

#: LangGraph's extensions hold msgpack of their own. Others are opened by whoever knows them.
_NESTED: Final = range(8)


# By first byte. Items: how many bytes the count has, and how many items there are for each counted one. Sized: how many
# bytes the size has, and how many bytes follow beside those; an extension's type is the first of them. Fixed: how many
# bytes follow. Small containers and texts, which have their count in the first byte, are not here.
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
    """What a body consists of: plain data. Raises ValueError when it is not msgpack."""
    if IS_FRAGILE:
        _walk(data)
    return ormsgpack.unpackb(data)


def check(data: bytes) -> None:
    """Make sure that opening a value will not end the process.

    Raises ValueError when it is not msgpack, as far as that was looked at.
    """
    if IS_FRAGILE and not _is_harmless(data):
        _walk(data)


def _is_harmless(data: bytes) -> bool:
    """Whether there is room for all that might be a count in it: most text has hardly any such bytes."""
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
    """Look through one value, and through what LangGraph's extensions in it hold.

    Raises ValueError when something is promised that the rest has no room for.
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
