"""What keeps older versions of ormsgpack from ending the process: it lets through all that is msgpack, and no more."""

from __future__ import annotations

import struct
from typing import Any

import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.format import msgpack_guard
from eventlog.format.msgpack_guard import check, unpack
from tests.support.mutations import NASTY

pytestmark = pytest.mark.portable

CI = settings(derandomize=True, database=None, deadline=None, max_examples=200)

SIZES = st.sampled_from([0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536])
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        SIZES.map(lambda size: "a" * size),
        SIZES.map(bytes),
        SIZES.map(lambda size: [1] * size),
        SIZES.map(lambda size: dict.fromkeys(map(str, range(size % 70_000)))),
        st.builds(ormsgpack.Ext, st.integers(0, 127), st.sampled_from([1, 2, 4, 8, 16, 17, 300, 70_000]).map(bytes)),
    ),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=10,
)


@pytest.fixture(autouse=True)
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every version as with the oldest."""
    monkeypatch.setattr(msgpack_guard, "IS_FRAGILE", True)


@CI
@given(ANYTHING)
def test_msgpack_of_every_size_is_accepted(value: Any) -> None:
    """Of every size that has a form of its own."""
    data = ormsgpack.packb(value)
    msgpack_guard._walk(data)
    check(data)
    with pytest.raises(ValueError, match=r"too early|to come"):
        msgpack_guard._walk(data[:-1])


def test_values_that_langgraph_stores_are_accepted() -> None:
    """Extensions in extensions, and what has bytes in it that look like lists."""
    serde = JsonPlusSerializer()
    for value in (
        [HumanMessage("a" * number, id=f"{number}") for number in range(300)],
        [AIMessage("x", tool_calls=[{"name": "f", "args": {"a": [1] * 100}, "id": "1"}]), {1, 2}, frozenset("ab")],
        {
            "vectors": struct.pack(">1000d", *(1e200 / number for number in range(1, 1001))),
            "text": "\u0700\u0741" * 500,
        },
        {"bytes": b"\xdd\xff\xff\xff\xff" * 1000},
    ):
        type_, data = serde.dumps_typed(value)
        check(data)
        msgpack_guard._walk(data)
        assert serde.loads_typed((type_, data)) == value


@pytest.mark.attack("hostile content")
@pytest.mark.parametrize("piece", [each for each in NASTY if each[0] in (0xDC, 0xDD, 0xDE, 0xDF, 0xC6, 0xDB, 0xC9)])
@pytest.mark.parametrize("before", [b"", b"\x92\x01", b"\x81\xa1a", b"\xc7\x05\x05", b"\xdc\x00\x02\xc0"])
def test_impossible_lengths_are_refused(piece: bytes, before: bytes) -> None:
    """Promises that nothing can keep, wherever they are."""
    for after in (b"", b"\x01" * 100):
        with pytest.raises(ValueError, match=r"too early|to come"):
            unpack(before + piece + after)
    if piece[0] in (0xDC, 0xDD, 0xDE, 0xDF):
        with pytest.raises(ValueError, match=r"too early|to come"):
            check(before + piece + b"\x01" * 100)


def test_lengths_are_bounded_together() -> None:
    """Each list of a thousand might have as many items as there are bytes, but not all of them."""
    with pytest.raises(ValueError, match="to come"):
        check(b"\xdd\x00\x0f\x00\x00" * 1000 + bytes(0xF0000))
