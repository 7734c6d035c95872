"""Copies of decoded messages: readers cannot tell them from decoded ones."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.format.contents import Serialized
from eventlog.format.values import dumps
from eventlog.streams import EventRef, Stream
from projections import message_cache
from projections.message_cache import ATOMS, MESSAGES, MessageCache, SharedElements
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, exactly, listed, put, values_of

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
MAPPINGS = st.dictionaries(st.text(max_size=3), PLAIN, max_size=3)
BLOCKS = st.text(max_size=20) | st.lists(st.text(max_size=5) | MAPPINGS, max_size=3)
TOOL_CALLS = st.lists(
    st.fixed_dictionaries({"name": st.text(max_size=3), "args": MAPPINGS, "id": st.none() | st.text(max_size=3)}),
    max_size=2,
)
COMMON = {"additional_kwargs": MAPPINGS, "response_metadata": MAPPINGS, "id": st.none() | st.text(max_size=3)}


def built(cls: type, **fields: Any) -> st.SearchStrategy[Any]:
    """Instances; `builds` would add fields of its own."""
    return st.fixed_dictionaries(fields).map(lambda chosen: cls(**chosen))


ANY_MESSAGE = st.one_of(
    built(HumanMessage, content=BLOCKS, **COMMON),
    built(SystemMessage, content=BLOCKS, **COMMON),
    built(AIMessage, content=BLOCKS, tool_calls=TOOL_CALLS, **COMMON),
    built(ToolMessage, content=BLOCKS, tool_call_id=st.text(max_size=3), artifact=PLAIN, **COMMON),
    built(ChatMessage, content=BLOCKS, role=st.text(max_size=3), **COMMON),
    built(FunctionMessage, content=st.text(max_size=3), name=st.just("f")),
    built(RemoveMessage, id=st.text(max_size=3)),
    st.just(AIMessageChunk("chunk", chunk_position="last")),
    st.uuids(),
    st.datetimes(),
    built(HumanMessage, content=st.just("x"), additional_kwargs=st.fixed_dictionaries({"at": st.datetimes()})),
)
STREAM = Stream("1", "")


class Own(HumanMessage):
    """A user's class: what its constructor does is not known."""


def serialized(value: Any) -> Serialized:
    return dumps(JsonPlusSerializer(), value, "the value")


def parts(value: Any) -> Iterator[Any]:
    """The value and all that can be changed in it."""
    if type(value) in ATOMS:
        return
    if isinstance(value, BaseMessage):
        inner = [value.__dict__, value.model_fields_set, value.__pydantic_extra__]
    elif isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    elif isinstance(value, set):
        inner = []
    else:
        return
    yield value
    for part in inner:
        yield from parts(part)


def same(one: Any, other: Any) -> bool:
    """Whether they are the same for a user, down to which fields were set."""
    if isinstance(one, BaseMessage) and type(one) is type(other):
        return (
            exactly(one.__dict__, other.__dict__)
            and one.model_fields_set == other.model_fields_set
            and exactly(one.__pydantic_extra__, other.__pydantic_extra__)
            and one.__pydantic_private__ == other.__pydantic_private__
        )
    if isinstance(one, list) and type(other) is list:
        return len(one) == len(other) and all(map(same, one, other))
    return exactly(one, other)


@given(st.lists(st.lists(ANY_MESSAGE, max_size=4), max_size=4))
def test_cached_messages_equal_decoded_ones(values: list[list[Any]]) -> None:
    """However often it was decoded before, and whatever became of what was given out."""
    serde, cache = JsonPlusSerializer(), MessageCache(2**20)
    given_out = []
    for value in values * 4:
        stored = serialized(value)
        found = cache.decoder(serde).value(stored, "it")
        assert same(found, serde.loads_typed((stored.type, stored.data)))
        assert same(copy.deepcopy(found), found)
        given_out.append(found)
    known = {id(part) for part in parts(given_out)}
    assert len(known) == sum(1 for _ in parts(given_out))


@given(st.lists(st.lists(ANY_MESSAGE | PLAIN, max_size=4), max_size=6), st.sampled_from([0, 5000, 2**20]))
def test_shared_messages_equal_decoded_ones(values: list[list[Any]], max_bytes: int) -> None:
    """Whatever is remembered of what was shared before."""
    serde = JsonPlusSerializer()
    shared = SharedElements(serde, max_bytes)
    for value in values * 2:
        stored = serialized(value)
        expected = serde.loads_typed((stored.type, stored.data))
        found = shared.channels(EventRef(STREAM, 1), {"x": stored, "y": serialized(1)})
        assert same(found["x"], expected)
        assert same(shared.value(stored, "it"), expected)


def counting(serde: JsonPlusSerializer) -> list[int]:
    """How often it decodes an element, from now on."""
    calls: list[int] = []
    decode = serde._unpack_ext_hook

    def hook(code: int, data: bytes) -> Any:
        calls.append(code)
        return decode(code, data)

    serde._unpack_ext_hook = hook
    return calls


def test_a_message_is_cached_at_its_second_read() -> None:
    """What is read once is not worth keeping."""
    serde, cache = JsonPlusSerializer(), MessageCache(2**20)
    calls = counting(serde)
    stored = serialized([HumanMessage(f"{number}", additional_kwargs={"a": [{}]}) for number in range(10)])
    for expected in (10, 20, 20, 20):
        cache.decoder(serde).value(stored, "it")
        assert len(calls) == expected


def test_shared_messages_are_decoded_once() -> None:
    """Whatever they are."""
    serde = JsonPlusSerializer()
    calls = counting(serde)
    shared = SharedElements(serde, 2**20)
    one, two = (shared.value(serialized([HumanMessage("a"), {1, 2}, Own("b"), number]), "it") for number in (1, 2))
    assert len(calls) == 3
    assert [a is b for a, b in zip(one, two, strict=True)] == [True, True, True, False]


@pytest.mark.parametrize("message", [Own("a"), HumanMessage("a", additional_kwargs={"id": UUID(int=1)})])
def test_unknown_types_are_decoded_each_time(message: Any) -> None:
    """A class of the user's; what is decoded by itself inside of a message."""
    serde, cache = JsonPlusSerializer(), MessageCache(2**20)
    calls = counting(serde)
    for expected in (1, 2, 3):
        assert cache.decoder(serde).value(serialized([message]), "it") == [message]
        assert len(calls) == expected
    assert cache.size_bytes == 0


def test_other_serializers_use_no_cache() -> None:
    """A subclass may do something else, and so may a hook of the user's."""

    class Sub(JsonPlusSerializer):
        pass

    cache = MessageCache(2**20)
    stored = serialized([HumanMessage("a")])
    for serde in (Sub(), JsonPlusSerializer(__unpack_ext_hook__=lambda code, data: code)):
        for _ in range(3):
            cache.decoder(serde).value(stored, "it")
            SharedElements(serde, 2**20).value(stored, "it")
    assert cache.decoder(serde).value(stored, "it") == [5]
    assert cache.size_bytes == 0


def test_no_allowlist_forbids_messages() -> None:
    """A copy is given out under each of them."""
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    made = [AIMessage("a"), AIMessageChunk("a"), ChatMessage("a", role="b"), FunctionMessage("a", name="b")]
    made += [HumanMessage("a"), RemoveMessage("a"), SystemMessage("a"), ToolMessage("a", tool_call_id="b")]
    assert {type(each) for each in made} == MESSAGES
    found = strict.loads_typed(JsonPlusSerializer().dumps_typed(made))
    assert [type(each) for each in found] == [type(each) for each in made]


def test_the_cache_stays_within_its_bound() -> None:
    """Of a conversation that is larger than the cache, a part is known."""
    cache = MessageCache(50_000)
    serde = JsonPlusSerializer()
    for number in range(200):
        for _ in range(3):
            cache.decoder(serde).value(serialized([HumanMessage(f"{number}")]), "it")
            assert cache.size_bytes <= 50_000
    assert cache.size_bytes > 20_000


def test_a_conversation_larger_than_the_cache_is_partly_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read over and over: some are known, and nearly all that are not are only decoded, as without a cache."""
    made = 0

    def copier(message: Any) -> Any:
        nonlocal made
        made += 1
        return make(message)

    make = message_cache._copier
    monkeypatch.setattr(message_cache, "_copier", copier)
    serde, cache = JsonPlusSerializer(), MessageCache(100_000)
    calls = counting(serde)
    stored = [serialized([HumanMessage(f"{number}")]) for number in range(200)]
    for each in stored * 3:
        cache.decoder(serde).value(each, "it")
    before, made = len(calls), 0
    for each in stored * 20:
        cache.decoder(serde).value(each, "it")
    decoded = len(calls) - before
    assert decoded < 20 * 200
    assert 0 < made <= decoded // 10


@pytest.mark.parametrize(
    "inner",
    ["x", {"args": {"a": 1}}, [{"row": n} for n in range(100)], [[]] * 500],
    ids=["none", "a tool's", "rows", "empty ones"],
)
def test_containers_are_charged_by_their_size_in_memory(inner: Any) -> None:
    """A list or a mapping is a byte or two where it is stored, and hundreds in memory, as is what copies it."""
    serde, cache = JsonPlusSerializer(), MessageCache(2**23)
    stored = [serialized([ToolMessage("a", tool_call_id=f"{n}", artifact=inner)]) for n in range(100)]
    tracemalloc.start()
    try:
        for each in stored * 2:
            cache.decoder(serde).value(each, "it")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.size_bytes > 0
    assert taken < 1.5 * cache.size_bytes


@pytest.fixture(params=["sync-pool", "async-pool"])
def kind(request: pytest.FixtureRequest) -> str:
    """How a saver is connected makes no difference here."""
    return str(request.param)


@pytest.mark.parametrize("share", [False, True])
async def test_messages_are_shared_only_on_request(kind: str, database_uri: str, share: bool) -> None:
    """And otherwise, a change to what was read is seen by no other reader."""
    async with open_saver(kind, database_uri, share_history=share) as saver:
        config = config_of()
        messages = [HumanMessage("x" * 100, id=f"{number}") for number in range(30)]
        for number in range(30):
            config = await put(
                saver,
                config,
                f"{number:02}",
                {"messages": messages[: number + 1], "kept": {"a": []}},
                versions={"messages": f"{number:02}", "kept": "1"},
            )
        found = [each.checkpoint["channel_values"] for each in await listed(saver, config_of())]
        for number, values in enumerate(reversed(found)):
            assert values == {"messages": messages[: number + 1], "kept": {"a": []}}
        same_objects = {id(values["messages"][0]) for values in found}
        assert len(same_objects) == (1 if share else 30)
        assert len({id(values["kept"]) for values in found}) == (1 if share else 30)
        found[0]["messages"][0].content = "changed"
        found[0]["kept"]["a"].append(1)
        changed = [values["messages"][0].content == "changed" for values in found]
        assert changed == [share or not place for place in range(30)]
        for _ in range(3):
            assert (await values_of(saver, config_of()))["messages"] == messages
            assert (await listed(saver, config_of(), limit=1))[0].checkpoint["channel_values"]["kept"] == {"a": []}
