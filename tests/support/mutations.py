"""Bodies that something happened to: a bad disk, a bad copy, or an attacker who knows the format.

Each strategy draws from a body what became of it. Those who know the format take it apart and put it together again,
so that what they changed is not hidden behind a compressor that notices every flipped bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import ormsgpack
import zstandard
from hypothesis import strategies as st

from eventlog.format.codec import COMPRESSED, DICTIONARY, ENCRYPTED, VERSION
from tests.support.checkpoints import uncompressed

#: Pieces of msgpack that promise what is not there, go deep, or are of a kind that bodies do not have.
NASTY: tuple[bytes, ...] = (
    b"\xdd\xff\xff\xff\xff",  # an array of four billion
    b"\xdf\xff\xff\xff\xff",  # a mapping of four billion
    b"\xdd\x00\x10\x00\x00",  # one of a million
    b"\xdc\xff\xff",
    b"\xde\xff\xff",
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xdb\xff\xff\xff\xff",  # text
    b"\xc9\xff\xff\xff\xff\x05",  # an extension
    b"\xdc\xff\xff" * 300,
    b"\x91" * 5000,
    b"\x81\xa1a" * 5000,
    b"\x91" * 600 + b"\x01",
    b"\xa3\xff\xfe\xfd",  # no UTF-8
    b"\xa3\xed\xa0\x80",  # half a surrogate pair
    b"\xc1",  # never used
    b"\xd4\x05\x01",
    b"\xc7\x03\x07\xdd\xff\xff",
    b"\xd6\xff\x00\x00\x00\x01",  # a time
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # not a number
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
    b"\x82\xa1a\x01\xa1a\x02",  # the same key twice
    b"\x81\x90\x01",  # a list as a key
    b"\x81\x01\x01",
    b"\x80",
    b"\x90",
    b"\xc0",
    b"\xc3",
    b"\xff",
    b"\x04",
)

#: Values that a program may stumble over, in the place of any other.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 4, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, float("inf"), float("nan")),
    *("", "x", "msgpack", "null", "bytes", "json", "pickle", "eventlog.int", "eventlog.json", "a" * 300, "\0"),
    *(b"", b"\x01", b"\x91" * 3000, b"\xdd\xff\xff\xff\xff\x01", [], {}, [[]], [3], [4, "x", [3]], {"": ""}),
)


def _dictionary() -> zstandard.ZstdCompressionDict:
    content = resources.files("eventlog.format").joinpath("bodies.dict").read_bytes()
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def content_of(body: bytes) -> bytes:
    """What is in a body that is not encrypted."""
    return uncompressed(body) if body[0] & COMPRESSED else body[1:]


def sealed(content: bytes, flags: int) -> bytes:
    """A body of this content, compressed as the flags say."""
    if flags & COMPRESSED:
        known = _dictionary() if flags & DICTIONARY else None
        content = zstandard.ZstdCompressor(dict_data=known).compress(content)
    return bytes((flags,)) + content


@st.composite
def damaged(draw: st.DrawFn, data: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes after an accident: bits that flipped, what was cut off or came in, two that became one."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        what = draw(st.sampled_from(["flip", "flip", "byte", "cut", "drop", "nasty", "over", "splice", "repeat"]))
        if what == "flip" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "byte" and changed:
            changed[at] = draw(st.integers(0, 255))
        elif what == "cut":
            del changed[at:]
        elif what == "drop":
            del changed[at : at + draw(st.integers(1, 9))]
        elif what == "nasty":
            changed[at:at] = draw(st.sampled_from(NASTY))
        elif what == "over":
            piece = draw(st.sampled_from(NASTY))
            changed[at : at + len(piece)] = piece
        elif what == "splice":
            other = draw(st.sampled_from(others))
            changed[at:] = other[draw(st.integers(0, len(other))) :]
        elif what == "repeat":
            changed[at:at] = changed[at : at + draw(st.integers(1, 40))]
    return bytes(changed)


@st.composite
def forged(draw: st.DrawFn, content: Any) -> Any:
    """Plain data of which one part is another: something odd, a part of it from elsewhere, or nothing."""
    if isinstance(content, (list, dict)) and content and draw(st.integers(0, 9)):
        place = draw(st.sampled_from(sorted(content) if isinstance(content, dict) else range(len(content))))
        changed = content.copy()
        if not draw(st.integers(0, 9)):
            changed.pop(place)
        else:
            changed[place] = draw(forged(content[place]))
        return changed
    if type(content) is bytes and draw(st.booleans()):
        return draw(damaged(content, [content]))
    if type(content) is int and draw(st.booleans()):
        return content + draw(st.integers(-3, 3))
    if type(content) is str and draw(st.booleans()):
        return content[:-1] + draw(st.sampled_from("ab0.\0"))
    return draw(st.sampled_from(ODD))


@st.composite
def mutated(draw: st.DrawFn, body: bytes, others: Sequence[bytes]) -> bytes:
    """A body after an accident, or one that an attacker made out of it. (Encrypted ones only have accidents.)"""
    how = draw(st.sampled_from(["stored", "content", "content", "parts", "parts", "parts"]))
    if how == "stored" or body[0] & ENCRYPTED:
        return draw(damaged(body, others))
    flags = draw(st.sampled_from([VERSION, VERSION | COMPRESSED, VERSION | COMPRESSED | DICTIONARY]))
    content = content_of(body)
    if how == "content":
        return sealed(draw(damaged(content, [content_of(other) for other in others])), flags)
    return sealed(ormsgpack.packb(draw(forged(ormsgpack.unpackb(content)))), flags)


def only(error: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any]) -> Exception | None:
    """What a call fails with, if that is what it may fail with; None when it does not."""
    try:
        call()
    except error as exc:
        return exc
    return None
