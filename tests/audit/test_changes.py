"""What events changed: decoded, and enough to make every state of it again."""

from __future__ import annotations

import base64
import json
import operator
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from eventlog.errors import LogCorruptedError
from eventlog.settings import Settings
from langgraph.checkpoint.eventlog import Change
from tests.audit.test_history import Counting, Json
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import TEXTS, Tables, codec_of, config_of, converse, exactly, listed, put, tangle
from tests.support.scenarios import MODES, Mode, Run, in_context, open_mode

__all__ = ["in_context"]


async def changes(saver: Any, thread_id: Any = "1", **options: Any) -> list[Change]:
    return [change async for change in saver.log.changes(thread_id, **options)]


def told(change: Change) -> dict[str, Any]:
    return {each.channel: value for each, value in zip(change.entry.channels, change.values, strict=True)}


async def test_changes_hold_the_values_that_each_event_set_or_appended(saver: Any) -> None:
    first = await put(saver, config_of("1"), "a", {"list": [*TEXTS], "text": "t" * 100, "number": 1})
    await saver.aput_writes(first, [("list", ["w"]), ("number", None)], "task", "path")
    second = await put(saver, first, "b", {"list": [*TEXTS, "more", {"and": "more"}], "text": "t" * 99 + "!"})
    await put(saver, second, "c", {"list": TEXTS[1:], "text": "t" * 99 + "!"})
    await saver.log.prune(["1"], keep_last=3)
    found = await changes(saver)
    assert [told(change) for change in found] == [
        {"list": TEXTS, "text": "t" * 100, "number": 1},
        {"list": ["w"], "number": None},
        {"list": ["more", {"and": "more"}], "text": "t" * 99 + "!", "number": None},
        {"list": TEXTS[1:]},
    ]
    assert [[each.what for each in change.entry.channels] for change in found[2:]] == [
        ["appended", "changed", "removed"],
        ["changed"],
    ]


async def test_each_message_is_yielded_alone_as_the_object_that_was_put(saver: Any) -> None:
    messages: list[Any] = [HumanMessage("Where?", id="1")]
    config = config_of("1")
    for number in range(2, 30):
        config = await put(saver, config, f"{number:02}", {"messages": messages})
        messages = [
            *messages,
            AIMessage("", id=f"{number}", tool_calls=[{"name": "look", "args": {"at": number}, "id": f"call {number}"}])
            if number % 2
            else ToolMessage(f"It is at {number}. " * number, tool_call_id=f"call {number}", id=f"{number}"),
        ]
    first, *rest = await changes(saver)
    assert told(first) == {"messages": messages[:1]}
    assert [told(change)["messages"] for change in rest] == [[message] for message in messages[1:-1]]
    assert {change.entry.channels[0].what for change in rest} == {"appended"}


@POOLS
async def test_a_large_incompressible_message_is_yielded_alone(kind: str, database_uri: str) -> None:
    """A list that it doubles is stored in full, and still it alone is told and decoded."""
    noise = random.Random(7)
    messages: list[AnyMessage] = [HumanMessage(f"Lorem ipsum {n} " * 2000, id=f"{n}") for n in range(4)]
    url = "data:image/png;base64," + base64.b64encode(noise.randbytes(200_000)).decode()
    image = HumanMessage([{"type": "image_url", "image_url": {"url": url}}], id="image")
    async with open_saver(kind, database_uri) as saver:
        config = await put(saver, config_of("1"), "a", {"messages": messages, "other": [1, *TEXTS]})
        config = await put(saver, config, "b", {"messages": [*messages, image]})
        # All is new, and as long as before it is another list.
        other = [HumanMessage(noise.randbytes(120_000).hex(), id=f"o{n}") for n in range(6)]
        await put(saver, config, "c", {"messages": other})
    serde = Counting()
    async with open_saver(kind, database_uri, serde=serde) as reader:
        for options in ({}, {"newest_first": True}, {"limit": 2}):
            found = {each.entry.checkpoint_id: each async for each in reader.log.changes("1", **options)}
            (change,) = [each for each in found["b"].entry.channels if each.channel == "messages"]
            assert (change.what, change.items, change.length) == ("appended", 1, 5)
            assert change.bytes > 200_000
            assert told(found["b"])["messages"] == [image]
        (change,) = [each async for each in reader.log.changes("1", after=found["b"])]
        assert told(change)["messages"] == other
        assert change.entry.channels[0].what == "set"


class State(BaseModel):
    messages: list[str]
    count: int


@POOLS
async def test_a_pydantic_state_is_decoded_as_a_whole(kind: str, database_uri: str) -> None:
    serde = JsonPlusSerializer(allowed_msgpack_modules=[(State.__module__, State.__name__)])
    async with open_saver(kind, database_uri, serde=serde) as saver:
        states = [State(messages=[*TEXTS, *map(str, range(count))], count=count) for count in range(20)]
        config = config_of("1")
        for number, state in enumerate(states):
            config = await put(saver, config, f"{number:02}", {"state": state})
        found = await changes(saver)
    assert [told(change)["state"] for change in found] == states
    assert [change.entry.channels[0].what for change in found] == ["set"] + ["changed"] * 19


@POOLS
async def test_only_changed_values_and_metadata_are_decoded(kind: str, database_uri: str) -> None:
    """One value for each change, and the metadata."""
    async with open_saver(kind, database_uri) as saver:
        await converse(saver)
    serde = Counting()
    async with open_saver(kind, database_uri, serde=serde) as reader:
        found = await changes(reader)
        assert serde.loaded == sum(len(change.values) + (change.entry.kind == "checkpoint") for change in found)


@POOLS
async def test_operations_have_no_values(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        await converse(saver)
        await saver.adelete_thread("1")
        ((record, values),) = await changes(saver)
        assert (record.kind, values) == ("deleted", [])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@POOLS
async def test_pages_add_up_to_the_whole_in_both_directions(kind: str, size: int, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        await tangle(saver)
        whole = await changes(saver)
        records = [record async for record in saver.log.history("1")]
        assert [change.entry for change in whole] == records
        for newest_first in (False, True):
            found: list[Change] = []
            while page := await changes(
                saver, limit=size, newest_first=newest_first, after=found[-1] if found else None
            ):
                found += page
            assert found == (whole[::-1] if newest_first else whole)
        for kinds in (["checkpoint"], ["writes"]):
            assert await changes(saver, kinds=kinds) == [each for each in whole if each.entry.kind in kinds]


@pytest.mark.portable
async def test_states_that_do_not_fit_in_memory_are_read_again(
    database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States that are not kept are read again, current ones and those that were replaced."""
    async with open_saver("sync-pool", database_uri) as saver:
        await tangle(saver)
        whole = await changes(saver)
        monkeypatch.setattr("projections.history.KEPT_BYTES", 1)
        monkeypatch.setattr("projections.history.MOST_PIECES", 1)
        assert await changes(saver) == whole


async def test_an_encrypted_log_without_its_key_is_refused(database_uri: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with open_saver("sync-pool", database_uri, serde=serde) as saver:
        await tangle(saver)
        assert len(await changes(saver)) == 30
    async with open_saver("sync-pool", database_uri) as reader:
        with pytest.raises(LogCorruptedError, match="encrypted"):
            await changes(reader)


async def test_a_missing_base_is_named_in_the_error(database_uri: str) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        config = await put(saver, config_of("1"), "a", {"x": TEXTS, "y": "y" * 200})
        await put(saver, config, "b", {"x": [*TEXTS, "b"], "y": "y" * 199 + "!"})
        Tables(database_uri).run(
            "set session_replication_role = replica; delete from {schema}.events where seq = 1;"
            " delete from {schema}.checkpoints where seq = 1"
        )
        with pytest.raises(LogCorruptedError, match=r"event 1 of thread '1'.*missing"):
            await changes(saver)
        # What can be told without it is told.
        (record,) = [record async for record in saver.log.history("1")]
        assert [each.what for each in record.channels] == ["changed", "changed"]


BAD: list[Any] = [
    [],
    [9],
    ["x"],
    [0],
    [0, "msgpack"],
    [0, 1, b""],
    [1, "msgpack", b"", -1, 0, b"", 0],
    [1, "msgpack", b"", 0, 10**9, b"", 0],
    [1, "msgpack", b""],
    [2, "msgpack", b"no frame"],
    [2, "msgpack", b""],
    [3, 3],
    [4, "x"],
    [4, "x", [9]],
    [4, "x", [3]],
    [4, "nobody", [1, "msgpack", b"", 0, 1, b"", 0]],
]


@pytest.mark.parametrize("op", BAD, ids=str)
async def test_a_bad_channel_operation_is_reported_with_its_event(op: Any, database_uri: str) -> None:
    """Whatever stands in an event: the error names it, or the history tells what can be told."""
    codec = codec_of(Settings())
    async with open_saver("sync-pool", database_uri) as saver:
        config = await put(saver, config_of("1"), "a", {"x": TEXTS, "y": "y" * 2000})
        await put(saver, config, "b", {"x": [*TEXTS, "b"], "y": "y" * 1999 + "!"})
        tables = Tables(database_uri)
        event = codec.decode_checkpoint(tables.one("select body from {schema}.events where seq = 2"), "event 2")
        event.channels["x"] = op
        tables.replace_body("events", "1", 2, codec.encode_checkpoint(event))
        with pytest.raises(LogCorruptedError, match="event 2 of thread '1'"):
            await changes(saver)
        with suppress(LogCorruptedError):
            assert len([record async for record in saver.log.history("1")]) == 2


# --- the model: every state, made again from the changes


def replay(found: list[Change]) -> dict[int, dict[str, Any]]:
    """The channel values after each checkpoint's event, from what the changes say and nothing else."""
    ids: dict[str, dict[str, Any]] = {}
    states: dict[int, dict[str, Any]] = {}
    for record, values in found:
        if record.kind != "checkpoint":
            continue
        state = {} if record.self_contained else dict(ids[record.parent_id or ""])
        for change, value in zip(record.channels, values, strict=True):
            if change.what == "removed":
                del state[change.channel]
            elif change.what == "appended":
                assert len(value) == change.items
                state[change.channel] = state[change.channel] + value
            else:
                state[change.channel] = value
            if change.length is not None and change.what != "removed":
                assert len(state[change.channel]) == change.length
        assert record.checkpoint_id is not None
        ids[record.checkpoint_id] = states[record.seq] = state
    return states


#: Long and short, alike and unlike, what the serializer keeps as msgpack and what not.
def some_value(choice: random.Random) -> Any:
    return choice.choice(
        [
            list,
            lambda: [choice.randint(0, 5)],
            lambda: [choice.choice(TEXTS) for _ in range(choice.randint(0, 20))],
            lambda: list(range(choice.choice([14, 15, 16, 255, 256, 65535, 65536]))),
            lambda: [HumanMessage(choice.choice(TEXTS), id=str(number)) for number in range(choice.randint(1, 12))],
            lambda: {"key": [*TEXTS[: choice.randint(0, 20)]]},
            lambda: choice.choice(TEXTS) * choice.randint(0, 20),
            lambda: None,
            lambda: b"\x93\x01\x02\x03",
            lambda: 1 << 80,
            lambda: [1 << 80],
            lambda: "\ud800",
        ]
    )()


def another(value: Any, choice: random.Random) -> Any:
    if not isinstance(value, list) or choice.random() < 0.15:
        return some_value(choice)
    item = choice.choice([*TEXTS, 1, None, [1], HumanMessage("a message", id="m")])
    return choice.choice(
        [
            lambda: [*value, item],
            lambda: [*value, item],
            lambda: [*value, *[item] * choice.choice([2, 16, 256])],
            lambda: [*value[1:], item],
            lambda: value[: len(value) // 2],
            lambda: [*value[:-1], item],
            lambda: [item, *value],
            lambda: [*value[: len(value) // 2], item, *value[len(value) // 2 :], item],
        ]
    )()


SERIALIZERS: dict[str, Callable[[], Any]] = {
    "msgpack": JsonPlusSerializer,
    "encrypted": lambda: EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef"),
    "json": Json,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_replayed_changes_equal_the_listed_states(seed: int, serializer: str, database_uri: str) -> None:
    """States made of changes are those that the saver lists; and so are those of replaced checkpoints' children."""
    choice = random.Random(f"{serializer} {seed}")
    serde = SERIALIZERS[serializer]()
    async with open_saver("sync-pool", database_uri, serde=serde, snapshot_floor_bytes=4000) as saver:
        states: dict[str, dict[str, Any]] = {}
        for number in range(50):
            id_ = f"{number:02}"
            # Mostly a line, with forks, and with savers that have not read what they build on.
            parent_id = None if not states else choice.choice([max(states)] * 5 + list(states))
            values = dict(states.get(parent_id or "", {}))
            new = {}
            for channel in choice.sample("abcd", choice.randint(1, 3)):
                values[channel] = another(values[channel], choice) if channel in values else some_value(choice)
                if serializer == "json" and not _is_json(values[channel]):
                    values[channel] = [*TEXTS[: choice.randint(0, 9)]]
                new[channel] = f"{id_}.{channel}"
                if choice.random() < 0.1:
                    del values[channel]
            versions = {channel: new.get(channel, "old") for channel in values}
            await put(
                saver, config_of("1", parent_id), id_, values, versions=versions, new=dict.fromkeys(versions, id_)
            )
            states[id_] = values
            if choice.random() < 0.1:
                saver.sync._context.states.drop_thread("1")
        found = await changes(saver)
        made = replay(found)
        for tuple_ in await listed(saver, config_of("1")):
            expected = tuple_.checkpoint["channel_values"]
            (seq,) = (c.entry.seq for c in found if c.entry.checkpoint_id == tuple_.checkpoint["id"])
            assert exactly(dict(sorted(made[seq].items())), dict(sorted(expected.items()))), (
                f"checkpoint {tuple_.checkpoint['id']}"
            )
        assert await changes(saver, newest_first=True) == found[::-1]
        records = [record async for record in saver.log.history("1")]
        assert records == [change.entry for change in found]
        for start in range(0, len(records), 7):
            after = records[start - 1] if start else None
            assert [each async for each in saver.log.history("1", after=after, limit=7)] == records[start : start + 7]


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


# --- real graphs


class Inner(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    steps: Annotated[list[str], operator.add]


def graph_of(saver: Any) -> Any:
    """A subgraph with a memory of its own, tasks side by side, an interrupt."""

    def say(state: Inner) -> dict[str, Any]:
        return {"messages": [AIMessage(f"said {len(state['messages'])}")], "steps": ["say"]}

    def ask(state: Inner) -> dict[str, Any]:
        return {"messages": [HumanMessage(interrupt("go on?"))], "steps": ["ask"]}

    def work(state: Any) -> dict[str, Any]:
        return {"steps": [f"work {state}"]}

    inner = StateGraph(Inner)
    inner.add_node("say", say)
    inner.add_node("ask", ask)
    inner.add_edge(START, "say")
    inner.add_edge("say", "ask")
    outer = StateGraph(Inner)
    outer.add_node("child", inner.compile(checkpointer=True))
    outer.add_node("work", work)
    outer.add_edge(START, "child")
    outer.add_conditional_edges("child", lambda state: [Send("work", number) for number in range(3)], ["work"])
    return outer.compile(checkpointer=saver)


@pytest.mark.parametrize("mode", MODES)
async def test_replayed_changes_of_a_graph_equal_its_states(mode: Mode, in_context: None, database_uri: str) -> None:
    """Each namespace, made again from its changes; the history names the runs, tasks and forks."""
    async with open_mode(mode, database_uri) as opened:
        run = Run(graph_of(opened), mode)
        for turn in range(3):
            await run.invoke({"messages": [HumanMessage(f"turn {turn}")], "steps": []})
            await run.invoke(Command(resume=f"yes {turn}"))
        older = [state for state in await run.history() if not state.next][1]
        await run.invoke({"messages": [HumanMessage("another way")], "steps": []}, older.config)
    async with open_saver("sync-pool", database_uri) as saver:
        whole = await changes(saver)
        namespaces = {change.entry.checkpoint_ns for change in whole}
        assert namespaces == {"", "child"}
        for ns in namespaces:
            found = [change for change in whole if change.entry.checkpoint_ns == ns]
            made = replay(found)
            seqs = {c.entry.checkpoint_id: c.entry.seq for c in found if c.entry.kind == "checkpoint"}
            tuples = await listed(saver, config_of("1", ns=ns))
            assert len(tuples) == len(seqs)
            for each in tuples:
                assert made[seqs[each.checkpoint["id"]]] == each.checkpoint["channel_values"]
        records = [change.entry for change in whole]
        appended = [each for record in records for each in record.channels if each.what == "appended"]
        assert {each.channel for each in appended} >= {"messages", "steps"}
        forks = [record for record in records if record.fork]
        assert [record.parent_id for record in forks] == [older.config["configurable"]["checkpoint_id"]]
        tasks = {record.task_id for record in records if record.kind == "writes"}
        assert len(tasks) > 12
        assert all(record.step is not None for record in records if record.kind == "checkpoint")
