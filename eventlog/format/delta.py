"""Channel values as differences: the theory, then the code.

A channel's value arrives as the bytes from the serializer. LangGraph's values mostly grow at their end (a
conversation), lose their head (a rolling window) or change in one place (a document), and the unchanged parts serialize
to the same bytes as before. So the difference between two values is a difference between two byte strings, and one edit
describes nearly all of them:

    splice   new = header + base[offset : offset + prefix] + inserted + base[len(base) - suffix :]

The header exists because containers begin with their size. A msgpack array of 15 items that gains one changes its first
byte and grows by two more (``0x9f`` to ``0xdc 0x00 0x10``); in a pydantic state, an ``ext`` with a length field comes
before the class's name, the map, and the list that grew. Everything after the header is unchanged but shifted, so a
plain common prefix ends at once. Instead, the code searches the base for a few bytes of the new value (`bytes.find`
runs at memory speed), grows that match both ways, and calls the part before it the header.

Values that changed in many places are compared by zstd with the base as its dictionary:

    patch    new = zstd(new, dictionary=base)

Both must save at least half of the value, or the value is stored in full: a difference costs every later reader.

A value without a predecessor may still repeat known data: LangGraph's prebuilt agent sends its whole state with every
tool call, and a task may write the conversation with one more message. Such a value is stored as the difference from
another channel, the source, as the source was before the event (`Cross`).

`difference` chooses an operation, `apply` executes it, and `eventlog.format.codec` defines its bytes.

Reading folds many operations on one channel. Joining 400 KB for each of 300 events would copy 120 MB; a `Rope` keeps
the pieces instead, edits them at their ends, and joins them once.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import zstandard

from eventlog.format.rope import Rope, Value

__all__ = [
    "DROP",
    "SMALLEST_CROSS",
    "Cross",
    "Difference",
    "Drop",
    "Full",
    "Operation",
    "Patch",
    "Serialized",
    "Splice",
    "apply",
    "cross",
    "decompress",
    "difference",
    "patched_bytes",
    "payload_bytes",
    "value_after",
]


class Serialized(NamedTuple):
    """A value as returned by the serializer: its type tag and its bytes."""

    type: str
    data: bytes


# Named tuples, because every read makes thousands of operations: a frozen dataclass takes twice as long to make.


class Full(NamedTuple):
    """Sets the channel, regardless of its value before."""

    type: str
    data: bytes


class Splice(NamedTuple):
    """One edit of the base. Numbers are bytes, and not negative."""

    type: str
    header: bytes
    offset: int
    prefix: int
    inserted: bytes
    suffix: int


class Patch(NamedTuple):
    """A zstd frame with the base as its dictionary."""

    type: str
    data: bytes


class Drop(NamedTuple):
    """The channel has no value."""


class Cross(NamedTuple):
    """The base is the value of another channel."""

    source: str
    inner: Difference


DROP: Final = Drop()

Difference: TypeAlias = "Splice | Patch"
Operation: TypeAlias = "Full | Splice | Patch | Drop | Cross"

#: Values smaller than this are stored in full: a splice has about 20 bytes of its own.
SMALLEST_DELTA = 64

#: Below this size zstd takes as long to load two dictionaries (50 µs each) as a `put` takes in the server. Bodies are
#: compressed as a whole anyway: patches of 512 bytes and more made those of nine shapes of state smaller by 1% at most.
SMALLEST_PATCH = 4096

#: From this size on, search the base for samples from this many places of a value, each within this distance from its
#: place.
SMALLEST_SAMPLED = 256 * 1024
SAMPLES = 32
SAMPLE_REACH_BYTES = 16 * 1024

#: Values of at least this size are compared with a source, if it is not much larger: the cost of comparing, or of
#: loading the dictionary in zstd, must be in proportion to the possible saving.
SMALLEST_CROSS = 2048
LARGEST_SOURCE = 4

#: Offsets in the new value at which to take the bytes to search for in the base. Headers end before the first; the
#: later offsets are for values that begin with new content.
ANCHORS = (2, 8, 24, 64, 160, 512, 2048)
ANCHOR_BYTES = 32
LARGE_ANCHORS = (64, 2048)

# Search nearby first: a header grows by only a few bytes, and a needle that includes the changed count is found
# nowhere, which costs reading the whole base.
_ANCHORED_SEARCHES = [(anchor, anchor + 4096) for anchor in ANCHORS] + [(anchor, None) for anchor in ANCHORS]

#: The longest comparison in one step: slices of this size are copied and compared within the processor's cache.
STEP_BYTES = 64 * 1024


def difference(value: Serialized, base: Serialized | None, *, limit: int) -> Full | Difference:
    """The cheapest operation that makes `base` into `value`.

    Args:
        limit: no patch is made of a value with more bytes: readers would refuse to decompress it.
    """
    if base is not None and len(value.data) >= SMALLEST_DELTA and len(base.data) >= SMALLEST_DELTA:
        found = _difference(value, base.data, limit)
        if found is not None:
            return found
    return Full(*value)


def cross(value: Serialized, source: tuple[str, Serialized], *, limit: int) -> Cross | None:
    """A value that its base does not help with, as the difference from another channel; None if that does not help
    either.

    Args:
        source: name and value of the other channel.
    """
    if len(value.data) < max(SMALLEST_CROSS, len(source[1].data) // LARGEST_SOURCE):
        return None
    found = _difference(value, source[1].data, limit)
    return None if found is None else Cross(source[0], found)


def payload_bytes(op: Operation) -> int:
    """How many bytes of a value an operation holds."""
    return sum([len(part) for part in (op.inner if type(op) is Cross else op) if type(part) is bytes])


def patched_bytes(op: Operation, limit: int) -> int:
    """How many bytes a patch decompresses to; 0 for other operations, and for a patch that `apply` refuses."""
    if type(op) is Cross:
        op = op.inner
    if type(op) is not Patch:
        return 0
    try:
        size = zstandard.frame_content_size(op.data)
    except zstandard.ZstdError:
        return 0
    return size if 0 <= size <= limit else 0


def _difference(value: Serialized, base: bytes, limit: int) -> Difference | None:
    splice = _splice(base, value.data)
    cost = len(value.data) if splice is None else len(splice[0]) + len(splice[3])
    # One edit that saves half may miss more that a dictionary finds: a state that is sent twice is contained twice.
    if (
        cost > len(value.data) // 8
        and len(value.data) <= limit
        and len(value.data) >= SMALLEST_PATCH
        and (splice is not None or _look_alike(base, value.data))
        and (patch := _patch(base, value.data)) is not None
        and len(patch) < cost
    ):
        return Patch(value.type, patch)
    return None if splice is None else Splice(value.type, *splice)


def _look_alike(base: bytes, new: bytes) -> bool:
    """Whether any part of a large value is near its old place: zstd takes a second to find out for 50 MB."""
    if len(new) < SMALLEST_SAMPLED:
        return True
    reach = abs(len(new) - len(base)) + SAMPLE_REACH_BYTES
    return any(
        base.find(new[at : at + ANCHOR_BYTES], max(0, at - reach), at + reach) >= 0
        for at in range(0, len(new) - ANCHOR_BYTES, len(new) // SAMPLES)
    )


def _splice(base: bytes, new: bytes) -> tuple[bytes, int, int, bytes, int] | None:
    """Header, offset, prefix, inserted, suffix; None if it would not save half."""
    budget = len(new) // 2
    suffix = _common_suffix(base, new)
    best = _fit(base, new, 0, 0, _common_prefix(base, 0, new, 0), suffix)
    is_good = best[0] <= budget and best[3] > max(ANCHORS)
    for anchor, end in () if is_good else _ANCHORED_SEARCHES:
        # Reading a large base from end to end takes nearly as long as writing it.
        if end is None and len(base) >= SMALLEST_SAMPLED and anchor not in LARGE_ANCHORS:
            continue
        needle = new[anchor : anchor + ANCHOR_BYTES]
        if len(needle) < ANCHOR_BYTES:
            continue
        found = base.find(needle, 0, end)
        if found < 0:
            continue
        back = _common_suffix(base[:found], new[:anchor])
        prefix = back + _common_prefix(base, found, new, anchor)
        candidate = _fit(base, new, anchor - back, found - back, prefix, suffix)
        if candidate[0] < best[0]:
            best = candidate
        if best[0] <= budget:
            break
    cost, header, offset, prefix, suffix = best
    if cost > budget:
        return None
    return new[:header], offset, prefix, new[header + prefix : len(new) - suffix], suffix


def _fit(base: bytes, new: bytes, header: int, offset: int, prefix: int, suffix: int) -> tuple[int, int, int, int, int]:
    """The cost of a splice in bytes, and its numbers. Copies nothing.

    Shortens the suffix if it would overlap the prefix, in either value: "aa" to "aaa" matches twice.
    """
    suffix = min(suffix, len(new) - header - prefix, len(base) - offset - prefix)
    return len(new) - prefix - suffix, header, offset, prefix, suffix


def _common_prefix(a: bytes, i: int, b: bytes, j: int) -> int:
    """How many bytes of a[i:] and b[j:] are the same.

    Compares slices (memcmp), doubling while they match and halving to find the end: a `memoryview` comparison is
    fifty times slower.
    """
    limit = min(len(a) - i, len(b) - j)
    done, step = 0, 256
    while done < limit:
        size = min(step, limit - done)
        if a[i + done : i + done + size] == b[j + done : j + done + size]:
            done += size
            step = min(step * 2, STEP_BYTES)
        elif size == 1:
            break
        else:
            step = size // 2
            limit = done + size
    return done


def _common_suffix(a: bytes, b: bytes) -> int:
    """How many bytes at the ends of both are the same."""
    limit = min(len(a), len(b))
    done, step = 0, 256
    while done < limit:
        size = min(step, limit - done)
        if a[len(a) - done - size : len(a) - done] == b[len(b) - done - size : len(b) - done]:
            done += size
            step = min(step * 2, STEP_BYTES)
        elif size == 1:
            break
        else:
            step = size // 2
            limit = done + size
    return done


def _patch(base: bytes, new: bytes) -> bytes | None:
    """zstd with the base as dictionary; None if it does not save half, or hardly more than zstd alone."""
    # Without these parameters zstd chooses a window that fits only the new value, and would not reach into the base.
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, source_size=len(new), dict_size=len(base), write_checksum=False
    )
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    patch = zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(new)
    if len(patch) > len(new) // 2:
        return None
    alone = zstandard.ZstdCompressor(level=3).compress(new)
    return patch if len(patch) <= len(alone) * 3 // 4 else None


def apply(op: Operation, base: Value | None, limit: int) -> Value | None:
    """The channel's value after an operation; None after a drop. Edits `base`'s rope in place.

    Raises ValueError or zstandard.ZstdError if the operation does not fit.

    Args:
        base: the channel's value before; for a `Cross`, that of its source.
        limit: the most bytes that decompressing may produce.
    """
    if type(op) is Full:
        return op.type, Rope(op.data)
    if type(op) is Drop:
        return None
    if type(op) is Cross:
        op = op.inner
    if base is None:
        raise ValueError("a difference without a base")
    rope = base[1]
    if type(op) is Splice:
        rope.splice(op.header, op.offset, op.prefix, op.inserted, op.suffix)
        return op.type, rope
    assert type(op) is Patch
    dictionary = zstandard.ZstdCompressionDict(rope.join(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return op.type, Rope(decompress(zstandard.ZstdDecompressor(dict_data=dictionary), op.data, limit))


def value_after(op: Operation, base: Value | None, limit: int) -> Value:
    """Like `apply`, for an operation that sets a value; does not change `base`."""
    value = apply(op, None if base is None else (base[0], base[1].copy()), limit)
    if value is None:
        raise ValueError("an operation that sets no value")
    return value


def decompress(decompressor: zstandard.ZstdDecompressor, data: bytes, limit: int) -> bytes:
    """Decompress one frame. Refuses a frame that declares more than `limit` before it allocates any memory.

    python-zstandard allocates what the frame's header says and then ignores ``max_output_size``.

    Raises ValueError for a larger frame, and zstandard.ZstdError for data that is no frame.
    """
    size = zstandard.frame_content_size(data)
    if size < 0 or size > limit:
        raise ValueError(f"decompresses to {size} bytes; the limit is {limit}")
    return decompressor.decompress(data, allow_extra_data=False)
