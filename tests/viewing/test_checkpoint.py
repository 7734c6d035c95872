"""One checkpoint: changes, conversation, state, writes, interrupts, errors; and how much of it is shown."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from typing import Any

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.format.contents import Serialized
from langgraph.checkpoint.eventlog import EventLogSaver, InvalidInputError, ThreadNotFoundError
from langgraph.checkpoint.eventlog.viewing import Reader, at, channel, checkpoint, thread
from langgraph.checkpoint.eventlog.viewing.decoding import pieces
from langgraph.checkpoint.eventlog.viewing.plain import Limits, as_tree
from tests.support.checkpoints import checkpoint_of, config_of
from tests.viewing.world import ODD, opened, reader, world

__all__ = ["reader", "world"]  # fixtures

pytestmark = pytest.mark.portable


async def latest(reader: Reader, thread_id: str, number: int = -1, **arguments: Any) -> dict[str, Any]:
    """The document of a step of a thread."""
    steps = [each for each in (await thread(reader, thread_id))["steps"] if each["kind"] == "step"]
    return await checkpoint(reader, thread_id, steps[number]["checkpoint_id"], **arguments)


async def test_what_changed_since_the_parent_comes_first(reader: Reader) -> None:
    document = await latest(reader, "waiting")
    assert json.loads(json.dumps(document)) == document
    changed = {each["channel"]: each for each in document["changes"] if not each["internal"]}
    assert changed.keys() == {"messages", "topic"}
    assert changed["messages"]["what"] == "appended"
    assert [each["content"] for each in changed["messages"]["appended"]] == ["Let me look."]
    assert (changed["topic"]["what"], changed["topic"]["after"]) == ("set", "weather")
    assert document["has_parent"]
    first = await latest(reader, "waiting", 0)
    assert not first["has_parent"]
    assert first["previous"] is None
    assert first["following"] == [document["parent_id"]]
    assert document["previous"] == document["parent_id"]


async def test_messages_are_a_conversation(reader: Reader) -> None:
    messages = (await latest(reader, "chat"))["messages"]
    assert messages["channel"] == "messages"
    assert messages["left_out"] == 0
    asked, called, answered, said = messages["messages"][:4]
    assert (asked["role"], asked["text"]) == ("human", "one")
    assert (called["role"], called["text"]) == ("ai", "Let me look.")
    assert called["tool_calls"] == [{"name": "get_weather", "args": {"city": "SF"}, "id": "call_1"}]
    assert called["tokens"] == {"input": 52, "output": 12, "total": 64}
    assert (answered["role"], answered["name"], answered["tool_call_id"]) == ("tool", "get_weather", "call_1")
    assert (said["role"], said["tokens"], said["error"]) == ("ai", None, False)


async def test_the_state_is_there_with_types_and_sizes(reader: Reader) -> None:
    document = await latest(reader, "waiting")
    channels = {each["name"]: each for each in document["channels"]}
    assert channels["topic"]["value"] == "weather"
    assert channels["topic"]["type"] == "msgpack"
    assert channels["topic"]["bytes"] == 8
    assert not channels["topic"]["cut"]
    assert document["state_bytes"] == sum(each["bytes"] for each in document["channels"])
    assert document["next"] == ["confirm"]
    assert document["metadata"]["user_id"] == "wai"
    assert document["actor"] == "ada"


async def test_an_interrupt_says_who_answered_it(reader: Reader) -> None:
    (waiting,) = (await latest(reader, "waiting"))["interrupts"]
    assert (waiting["node"], waiting["answered"], waiting["answer"]) == ("confirm", False, None)
    assert waiting["value"] == {"question": "Is it?"}
    (answered,) = (await latest(reader, "answered", -2))["interrupts"]
    assert (answered["answered"], answered["answered_by"], answered["answer"]) == (True, "bob", "yes")
    assert answered["answered_at"]


async def test_an_error_has_its_text(reader: Reader) -> None:
    document = await latest(reader, "failed")
    (error,) = document["errors"]
    assert error["node"] == "fail"
    assert "the oven is on fire" in error["text"]
    (write,) = [each for each in document["writes"] if each["channel"] == "__error__"]
    assert write["time"].endswith("Z")


async def test_the_config_can_be_copied_as_python(reader: Reader) -> None:
    document = await latest(reader, ODD)
    namespace: dict[str, Any] = {}
    exec(document["config_python"], namespace)
    assert namespace["config"] == document["config"]
    assert document["config"]["configurable"]["thread_id"] == ODD


async def test_a_relocated_checkpoint_is_shown_as_it_was_saved(reader: Reader) -> None:
    """What survives a prune is appended again."""
    document = await latest(reader, "pruned", 0)
    assert document["previous"] is None
    assert document["messages"]["messages"][0]["text"] == "one"


async def test_a_checkpoint_of_a_subgraph_is_shown(reader: Reader) -> None:
    (inner,) = [each for each in (await thread(reader, "nested"))["namespaces"] if each["ns"]]
    document = await checkpoint(reader, "nested", inner["latest"], ns=inner["ns"])
    assert document["ns"] == inner["ns"]
    assert document["interrupts"][0]["node"] == "confirm"


async def test_what_is_not_there_is_not_found(reader: Reader) -> None:
    with pytest.raises(ThreadNotFoundError, match="thread 'nobody' does not exist"):
        await checkpoint(reader, "nobody", "x")
    with pytest.raises(ThreadNotFoundError, match=r"thread 'chat' has no checkpoint 'x': .* or never existed"):
        await checkpoint(reader, "chat", "x")
    with pytest.raises(InvalidInputError, match=r"no value in channel 'x'; it has: .*'topic'"):
        await latest(reader, "waiting", channel="x")


# --- large values


def put(saver: EventLogSaver, thread_id: str, **values: Any) -> None:
    versions = dict.fromkeys(values, "1")
    saver.put(config_of(thread_id), checkpoint_of("1", values, versions), {}, versions)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["messages", "talk"])
async def test_a_conversation_is_shown_beside_large_channels(world: str, name: str) -> None:
    values: dict[str, Any] = {f"a{number}": ["x" * 9_000] * 50 for number in range(4)}
    values[name] = [HumanMessage(f"{number} " + "y" * 20_000) for number in range(120)]
    with EventLogSaver.from_conn_string(world) as saver:
        put(saver, "large", **values)
        reader = Reader(saver.log)
        stored = await checkpoint(reader, "large", "1")
        then = (await at(reader, "large", stored["time"]))["checkpoint"]
    for document in (stored, then):
        messages = document["messages"]
        assert messages["channel"] == name
        texts = [each["text"].split()[0] for each in messages["messages"]]
        assert len(texts) >= 45
        assert texts == [str(number) for number in range(messages["left_out"], 120)]
        assert len(json.dumps(document)) < 2_500_000


async def test_long_values_are_cut_and_one_channel_is_whole(world: str) -> None:
    text, items = "x" * 50_000, list(range(5_000))
    with EventLogSaver.from_conn_string(world) as saver:
        put(saver, "large", text=text, items=items, deep={"a": {"b": [text] * 3}}, short="yes")
        reader = Reader(saver.log)
        document = await checkpoint(reader, "large", "1")
        channels = {each["name"]: each for each in document["channels"]}
        assert channels["short"]["value"] == "yes"
        assert {name for name, each in channels.items() if each["cut"]} == {"text", "items", "deep"}
        assert channels["text"]["value"] == "x" * 10_000 + "… [40,000 more characters]"
        assert channels["items"]["value"][:100] == items[:100]
        assert channels["items"]["value"][100] == {"$type": "left out", "why": "4,800 more items"}
        assert channels["items"]["value"][101:] == items[-100:]
        assert len(json.dumps(document)) < 200_000
        whole = await checkpoint(reader, "large", "1", channel="text")
        (shown,) = [each for each in whole["channels"] if each["name"] == "text"]
        assert (shown["value"], shown["cut"]) == (text, False)
        alone = await channel(reader, "large", "1", "items")
        assert alone["channel"]["value"] == items


async def test_one_channel_is_bounded_too_and_says_how_to_get_the_rest(world: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        put(saver, "large", text="x" * 1_200_000, items=["y" * 1_000] * 30_000)
        for name in ("text", "items"):
            document = await checkpoint(Reader(saver.log), "large", "1", channel=name)
            (shown,) = [each for each in document["channels"] if each["name"] == name]
            assert shown["cut"]
            assert 900_000 < len(json.dumps(shown)) < 7_000_000
            assert document["channel_rest"] == f"eventlog show large 1 --channel {name} --json"
        document = await checkpoint(Reader(saver.log), "large", "1")
        assert document["channel_rest"] is None


async def test_many_long_values_do_not_make_a_page_long(world: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        put(saver, "many", **{f"c{number}": "x" * 20_000 for number in range(300)})
        document = await checkpoint(Reader(saver.log), "many", "1")
        assert len(document["channels"]) == 300
        assert len(json.dumps(document)) < 1_500_000


async def test_of_a_long_conversation_the_end_is_shown_and_the_rest_is_not_decoded(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [HumanMessage(f"number {number}", id=str(number)) for number in range(3_000)]
    with EventLogSaver.from_conn_string(world) as saver:
        put(saver, "long", messages=messages)
        reader = Reader(saver.log)
        sizes: list[int] = []
        load = reader.load
        monkeypatch.setattr(reader, "load", lambda value: sizes.append(len(value.data)) or load(value))
        document = await checkpoint(reader, "long", "1")
    shown = document["messages"]["messages"]
    assert [each["text"] for each in shown] == [f"number {number}" for number in range(2_900, 3_000)]
    assert document["messages"]["left_out"] == 2_900
    assert max(sizes) < document["state_bytes"] / 10


def test_a_long_list_is_cut_without_decoding_it() -> None:
    """Its items are told apart by their sizes alone; a list is decoded if its items do not say theirs."""
    serde = JsonPlusSerializer()
    kinds: list[Any] = [None, True, 1, -1, 200, 70_000, 2**40, -200, -70_000, -(2**40), 1.5, "a" * 40, "a" * 300, b"x"]
    kinds += ["a" * 70_000, b"x" * 300, b"x" * 70_000, AIMessage("a"), AIMessage("a" * 300), AIMessage("a" * 70_000)]
    for value in (kinds * 20, [1] * 70_000):
        found = pieces(Serialized(*serde.dumps_typed(value)), 5)
        assert found is not None
        assert found.length == len(value)
        assert serde.loads_typed(found.head) == value[:5]
        assert serde.loads_typed(found.tail) == value[-5:]
    for value in ([[1]] * 100, [{"a": 1}] * 100, [1] * 10, "text", {"a": 1}, [], None):
        assert pieces(Serialized(*serde.dumps_typed(value)), 5) is None
    type_, data = serde.dumps_typed([1] * 100)
    for broken in (data[:-1], data + b"\x01", data[:2], b"", b"\xdd"):
        assert pieces(Serialized(type_, broken), 5) is None


def test_finding_the_ends_of_a_list_takes_little_memory() -> None:
    def packed(length: int) -> Serialized:
        return Serialized("msgpack", b"\xdd" + length.to_bytes(4, "big") + b"\xc0" * length)

    tracemalloc.start()
    found = pieces(packed(1_000_000), 100)
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert found is not None
    assert JsonPlusSerializer().loads_typed(found.tail) == [None] * 100
    assert pieces(packed(1_000_001), 100) is None


def test_limits_count_all_values_together() -> None:
    limits = Limits(text=100, items=10, total=1_000)
    tree = as_tree(["x" * 90] * 10, limits)
    assert not limits.is_cut
    assert len(tree) == 10
    tree = as_tree({"a": ["x" * 90] * 30}, limits)
    assert limits.is_cut
    assert len(json.dumps(tree)) < 600
    assert as_tree({1: 2, "x": {3}}, Limits()) == as_tree({1: 2, "x": {3}})
    cut = as_tree({str(number): number for number in range(20)}, Limits(items=3))
    assert list(cut) == ["0", "1", "2", "…"]
    assert as_tree(b"x" * 40, Limits(text=10))["left_out"] == 30


# --- untrusted values


class Harmful:
    """Would run code as it is loaded."""

    loaded = False

    def __reduce__(self) -> Any:
        return (exec, ("from tests.viewing.test_checkpoint import Harmful; Harmful.loaded = True",))


@pytest.mark.parametrize("trust_types", [False, True])
async def test_no_code_runs_that_values_name(world: str, trust_types: bool) -> None:
    """Neither of a pickle nor of a class, whatever the log that was given trusts."""
    with EventLogSaver.from_conn_string(world) as saver:
        put(saver, "hostile", x=Harmful.__doc__, y="anything")
    with EventLogSaver.from_conn_string(world, serde=_Naming()) as saver:
        put(saver, "hostile", x=1, y=2, z=3)
    settings = {"serde": JsonPlusSerializer(pickle_fallback=True), "trust_types": trust_types}
    async with opened(world, **settings) as log:
        document = await checkpoint(Reader(log), "hostile", "1")
    channels = {each["name"]: each["value"] for each in document["channels"]}
    assert channels["x"]["$type"] == "undecodable"
    assert channels["x"]["serialized_as"] == "pickle"
    assert channels["y"] == {"$type": "tests.viewing.test_checkpoint.Harmful", "value": "data"}
    assert channels["z"]["$type"] == "undecodable"
    assert not Harmful.loaded


class _Naming(JsonPlusSerializer):
    """Stores other bytes than it was given: a pickle, an object of a class, and nonsense."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        if obj == 1:
            return "pickle", pickle.dumps(Harmful())
        if obj == 2:
            content = ormsgpack.packb(("tests.viewing.test_checkpoint", "Harmful", "data"))
            return "msgpack", ormsgpack.packb(ormsgpack.Ext(0, content))
        if obj == 3:
            return "unknown", b"\xff"
        return super().dumps_typed(obj)
