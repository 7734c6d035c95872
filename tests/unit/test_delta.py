"""Channel operations: whatever two values look like, the difference between them gives the second.

The strategies make pairs of values that are related in the ways that LangGraph's are (a list that
grew, a window that moved, one edit somewhere), because unrelated bytes would never get past `full`.
"""

from __future__ import annotations

import random
from typing import Any

import ormsgpack
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from eventlog.format.codec import _plain
from eventlog.format.delta import (
    DROP,
    Cross,
    Full,
    Operation,
    Patch,
    Serialized,
    Splice,
    apply,
    cross,
    difference,
    patched_bytes,
    payload_bytes,
    value_after,
)
from eventlog.format.rope import Rope

# The same examples in every run: a failure in CI is one that everybody has.
CI = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

LIMIT = 64 * 1024 * 1024

SERDE = JsonPlusSerializer()


class Conversation(BaseModel):
    """A graph's state as a pydantic model: serialized as an ``ext`` around its name and fields."""

    title: str
    messages: list[str]
    done: bool = False


def serialized(value: Any) -> Serialized:
    return Serialized(*SERDE.dumps_typed(value))


def stored_bytes(op: Operation) -> int:
    """What an operation adds to a body."""
    return len(ormsgpack.packb(op, default=_plain))


def value_of(op: Operation, base: Serialized | None, limit: int) -> Serialized:
    """The value after an operation, which leaves the base's rope as it was."""
    before = None if base is None else (base.type, Rope(base.data))
    type_, made = value_after(op, before, limit)
    assert before is None or base is None or before[1].join() == base.data
    return Serialized(type_, made.join())


def check(new: Serialized, base: Serialized | None) -> Operation:
    """All that must hold for every pair of values; returns the operation."""
    op = difference(new, base, limit=LIMIT)
    assert value_of(op, base, LIMIT) == new
    if type(op) is not Full:
        assert payload_bytes(op) <= len(new.data) // 2
        # The operation's own fields included, it is never more than the value.
        assert stored_bytes(op) <= stored_bytes(Full(*new))
    return op


# --- values that resemble each other

# Few distinct bytes make prefixes, suffixes and anchors match in more than one place.
CHUNKS = st.one_of(st.binary(max_size=300), st.text("ab", max_size=300).map(str.encode))
NOISE = st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(seed % 2000))
BLOBS = st.one_of(CHUNKS, NOISE, st.lists(CHUNKS, max_size=8).map(b"".join))
LARGE = st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(1000 + seed % 2000))


@st.composite
def edited(draw: st.DrawFn, old: bytes) -> bytes:
    """`old` after a few edits, anywhere: cuts, insertions, replacements."""
    new = old
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(new)))
        end = draw(st.integers(start, min(len(new), start + 200)))
        new = new[:start] + draw(CHUNKS) + new[end:]
    return new


PAIRS = st.one_of(
    st.tuples(BLOBS, BLOBS),
    LARGE.flatmap(lambda old: st.tuples(st.just(old), edited(old))),
    BLOBS.flatmap(lambda old: st.tuples(st.just(old), edited(old))),
    # A head that is gone and a tail that is new: a rolling window.
    st.tuples(BLOBS, BLOBS, BLOBS).map(lambda parts: (parts[0] + parts[1], parts[1] + parts[2])),
)


@CI
@given(PAIRS, st.sampled_from(["msgpack", "bytes", "json"]))
def test_any_bytes_round_trip_after_any_bytes(pair: tuple[bytes, bytes], type_: str) -> None:
    """Any bytes after any bytes, also when the value's type changes with them."""
    old, new = pair
    check(Serialized(type_, new), Serialized("msgpack", old))


ITEMS = st.one_of(st.integers(), st.text(max_size=40), st.binary(max_size=40), st.none())


@CI
@given(st.lists(ITEMS, max_size=40), st.lists(ITEMS, max_size=5), st.data())
def test_shortened_and_grown_lists_round_trip(items: list[Any], more: list[Any], data: st.DataObject) -> None:
    """A list that grew, lost its head or its middle, as it is and inside a pydantic model."""
    cut = data.draw(st.integers(0, len(items)))
    end = data.draw(st.integers(cut, len(items)))
    for new in (items + more, items[cut:] + more, items[:cut] + more + items[end:]):
        # The serializer has no integers beyond 64 bits; the codec writes those itself.
        old_texts, new_texts = [repr(each) for each in items], [repr(each) for each in new]
        check(serialized(new_texts), serialized(old_texts))
        check(
            serialized(Conversation(title="t", messages=new_texts, done=True)),
            serialized(Conversation(title="t", messages=old_texts)),
        )
        check(serialized(dict(enumerate(new_texts))), serialized(dict(enumerate(old_texts))))


@pytest.mark.parametrize("size", [15, 31, 255, 65535])
@pytest.mark.parametrize("container", ["list", "map", "model"])
def test_a_wider_length_header_keeps_the_match(container: str, size: int) -> None:
    """One item more makes the container's length field wider: what follows must still match."""
    texts = [f"item {number}: {number * 7919 % 65537}" for number in range(size + 1)]

    def value(items: list[str]) -> Serialized:
        if container == "list":
            return serialized(items)
        if container == "map":
            return serialized({f"k{number}": item for number, item in enumerate(items)})
        return serialized(Conversation(title="long", messages=items))

    op = check(value(texts), value(texts[:-1]))

    # Short values may do better with a dictionary, long ones must not need it.
    assert type(op) is Splice or (type(op) is Patch and size < 100)
    # The container's header and names, and the item that is new.
    assert payload_bytes(op) < 150
    assert payload_bytes(check(value(texts[:-1]), value(texts))) < 150


# --- chains


@CI
@given(LARGE, st.data())
def test_a_chain_of_operations_gives_each_value(first: bytes, data: st.DataObject) -> None:
    """Many operations on one rope give each value in turn, wherever it is joined on the way."""
    value = Serialized("msgpack", first)
    state = (value.type, Rope(first))
    for _ in range(data.draw(st.integers(1, 12))):
        new = Serialized("msgpack", data.draw(edited(value.data)) or data.draw(LARGE))
        found = apply(difference(new, value, limit=LIMIT), state, LIMIT)
        assert found is not None
        state, value = found, new
        if data.draw(st.booleans()):
            assert state[1].join() == value.data
    assert state[1].join() == value.data


@CI
@given(BLOBS, st.data())
def test_rope_does_what_its_formula_says(first: bytes, data: st.DataObject) -> None:
    """Edits that `difference` would never choose, against plain bytes."""
    rope, model = Rope(first), first
    for _ in range(data.draw(st.integers(1, 10))):
        offset = data.draw(st.integers(0, len(model)))
        prefix = data.draw(st.integers(0, len(model) - offset))
        suffix = data.draw(st.integers(0, len(model) - offset - prefix))
        header, inserted = data.draw(st.binary(max_size=5)), data.draw(st.binary(max_size=5))
        rope.splice(header, offset, prefix, inserted, suffix)
        kept = model[offset : offset + prefix]
        model = header + kept + inserted + model[len(model) - suffix :]
        if data.draw(st.booleans()):
            assert rope.join() == model
    assert rope.join() == model


@pytest.mark.parametrize(
    ("offset", "prefix", "suffix"),
    [
        (0, 11, 0),
        (11, 0, 0),
        (0, 0, 11),
        (4, 4, 4),
        (-1, 5, 0),
        (0, -1, 5),
        (5, 0, -1),
        (2**62,) * 3,
    ],
)
def test_edits_that_do_not_fit_are_refused(offset: int, prefix: int, suffix: int) -> None:
    """An altered operation is an error, never other bytes; the value stays as it was."""
    rope = Rope(b"0123456789")
    with pytest.raises(ValueError, match="does not fit"):
        rope.splice(b"", offset, prefix, b"", suffix)
    assert rope.join() == b"0123456789"


# --- which operation, at what price


def message(number: int) -> AnyMessage:
    kind = HumanMessage if number % 2 else AIMessage
    text = random.Random(number).randbytes(200).hex()
    return kind(f"{number}: {text}", id=f"00000000-0000-4000-8000-{number:012}")


def test_one_message_more_costs_one_message() -> None:
    """The point of it all: a conversation of n messages is O(n) bytes of log, not O(n²)."""
    messages = [message(number) for number in range(401)]
    cost = len(serialized(messages[-1]).data)

    op = check(serialized(messages), serialized(messages[:-1]))

    assert type(op) is Splice
    assert stored_bytes(op) < cost + 64


def test_a_moved_window_costs_what_came_in() -> None:
    """A history trimmed to its last messages loses its head with each one that it gains."""
    messages = [message(number) for number in range(430)]
    cost = len(serialized(messages[400:430]).data)

    op = check(serialized(messages[30:430]), serialized(messages[:400]))

    assert type(op) is Splice
    assert stored_bytes(op) < cost + 64


def test_an_edit_in_the_middle_costs_the_edit() -> None:
    """One paragraph of a document is rewritten."""
    paragraphs = [random.Random(number).randbytes(500).hex() for number in range(100)]
    old, new = "\n".join(paragraphs), "\n".join([*paragraphs[:50], "rewritten", *paragraphs[51:]])

    op = check(serialized(new), serialized(old))

    assert type(op) is Splice
    assert payload_bytes(op) < 64


def test_many_small_edits_are_a_patch() -> None:
    """Random text with a word changed every 2 KB: no single edit says that, a dictionary does."""
    parts = [random.Random(number).randbytes(1000).hex() for number in range(50)]
    old, new = "old".join(parts), "new".join(parts)

    op = check(serialized(new), serialized(old))

    assert type(op) is Patch
    assert payload_bytes(op) < len(new) // 10


def test_unrelated_values_are_full() -> None:
    """Nothing in common, or as small compressed by itself: a difference would only cost readers."""
    noise = [random.Random(number).randbytes(5000) for number in range(2)]
    for old, new in ((noise[0], noise[1]), (noise[0], b"a" * 10_000), (b"", noise[0])):
        assert type(check(Serialized("bytes", new), Serialized("bytes", old))) is Full
    assert check(Serialized("bytes", noise[0]), None) == ("bytes", noise[0])


def test_a_value_that_repeats_another_channel_is_a_difference_from_it() -> None:
    """A state that is sent along with a call: the channel is new, and what it says is known."""
    messages = [message(number) for number in range(40)]
    source = serialized(messages)
    sent = serialized([{"name": "tool", "args": {"state": {"messages": messages}, "again": messages}}])

    op = cross(sent, ("messages", source), limit=LIMIT)

    assert type(op) is Cross
    assert op.source == "messages"
    assert payload_bytes(op) == payload_bytes(op.inner) < len(sent.data) // 20
    assert value_of(op, source, LIMIT) == sent
    assert patched_bytes(op, LIMIT) == (len(sent.data) if type(op.inner) is Patch else 0)
    # A small value is not worth the look.
    for small in (serialized(messages[:1]), Serialized("msgpack", source.data[:1000])):
        assert cross(small, ("messages", source), limit=LIMIT) is None


@CI
@given(BLOBS, BLOBS, st.data())
def test_a_source_never_makes_a_difference_wrong_or_larger(base: bytes, source: bytes, data: st.DataObject) -> None:
    """With another channel to compare with, an operation gives the value all the same, and costs no more than it."""
    repeat = data.draw(st.integers(1, 20))
    new = Serialized("msgpack", data.draw(BLOBS) + data.draw(edited(source)) * repeat)
    own, other = Serialized("msgpack", base), Serialized("bytes", source * repeat)
    op = difference(new, own, limit=LIMIT)
    if type(op) is Full:
        op = cross(new, ("other", other), limit=LIMIT) or op
    assert value_of(op, other if type(op) is Cross else own, LIMIT) == new
    assert stored_bytes(op) <= stored_bytes(Full(*new))


def test_a_drop_leaves_no_value() -> None:
    """A channel without a value, whatever it had before."""
    base = Serialized("bytes", b"x" * 1000)
    assert apply(DROP, (base.type, Rope(base.data)), LIMIT) is apply(DROP, None, LIMIT) is None
    with pytest.raises(ValueError, match="sets no value"):
        value_of(DROP, base, LIMIT)


def test_a_patch_that_is_no_frame_is_refused() -> None:
    """Stored bytes may have been altered."""
    with pytest.raises(zstandard.ZstdError):
        value_of(Patch("bytes", b"no frame"), Serialized("bytes", b"x" * 100), LIMIT)
    assert patched_bytes(Patch("bytes", b"no frame"), LIMIT) == 0


@pytest.mark.parametrize("op", [Splice("bytes", b"", 0, 0, b"x", 0), Patch("bytes", b"")])
def test_differences_need_a_base(op: Splice | Patch) -> None:
    """An event with another base than it was made for."""
    with pytest.raises(ValueError, match="without a base"):
        value_of(op, None, LIMIT)
    with pytest.raises(ValueError, match="without a base"):
        value_after([Cross("other", op)], None, LIMIT)


def test_a_patch_cannot_take_all_memory() -> None:
    """The limit is checked against what the frame says, before memory is taken for it."""
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(10 * 1024 * 1024))
    assert len(bomb) < 10_000
    base = ("bytes", Rope(b"x" * 100))
    with pytest.raises(ValueError, match="the limit is"):
        apply(Patch("bytes", bomb), base, 1024 * 1024)
    # A frame that does not say its size could be of any.
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(ValueError, match="the limit is"):
        apply(Patch("bytes", unsized), base, 1024 * 1024)
