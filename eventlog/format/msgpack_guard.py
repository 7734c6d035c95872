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

#: Bytes that containers of more than 15 items begin with, and how many bytes their count has: lists, then mappings.
_COUNTS: Final = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}

#: All counts that may be in some bytes may add up to so many times as many: whatever they are, there is room for them.
_HARMLESS: Final = 4

#: LangGraph's extensions hold msgpack of their own. Others are opened by whoever knows them.
_NESTED: Final = range(8)


def unpack(data: bytes) -> Any:
    """What a body consists of: plain data.

    Raises:
        ValueError: when it is not msgpack.
    """
    if IS_FRAGILE:
        _walk(data)
    return ormsgpack.unpackb(data)


def check(data: bytes) -> None:
    """Make sure that opening a value will not end the process.

    Raises:
        ValueError: when it is not msgpack, as far as that was looked at.
    """
    if IS_FRAGILE and not _is_harmless(data):
        _walk(data)


def _is_harmless(data: bytes) -> bool:
    """Whether there is room for all that might be a count in it: most text has hardly any such bytes."""
    room = _HARMLESS * len(data)
    for code, size in _COUNTS.items():
        at = data.find(code)
        while at >= 0:
            room -= int.from_bytes(data[at + 1 : at + 1 + size], "big")
            if room < 0:
                return False
            at = data.find(code, at + 1)
    return True


# By first byte: how many bytes are a count or a size, how many items a counted one has for each, how many bytes follow
# beside those that are counted. Small ones, which have their count in the first byte, are not here.
_ITEMS: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_SIZED: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSIONS: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_FIXED: Final = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8,
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
}  # fmt: skip


def _walk(data: bytes) -> None:
    """Look through one value, and through what LangGraph's extensions in it hold.

    Raises:
        ValueError: when something is promised that the rest has no room for.
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
                width = _SIZED[code]
                at += width + int.from_bytes(data[at : at + width], "big")
            elif code in _ITEMS:
                width, each = _ITEMS[code]
                wanted += each * int.from_bytes(data[at : at + width], "big")
                at += width
            elif code in _EXTENSIONS or code in _FIXED_EXTENSIONS:
                width = _EXTENSIONS.get(code, 0)
                size = int.from_bytes(data[at : at + width], "big") if width else _FIXED_EXTENSIONS[code]
                at += width
                if data[at : at + 1] and data[at] in _NESTED:
                    regions.append((at + 1, min(at + 1 + size, end)))
                at += 1 + size
            else:
                raise ValueError("a byte that msgpack does not use")
        if at > end:
            raise ValueError("it ends too early")
