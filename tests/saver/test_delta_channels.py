"""Channels of which LangGraph stores only the writes: their values are rebuilt from a checkpoint's ancestry.

The saver answers `get_delta_channel_history` from a page of the log at a time. LangGraph's own
implementation, one `get_tuple` for each ancestor, says what the answer must be.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Overwrite, interrupt

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import _delta
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, exactly, put
from tests.support.memory import OrderedMemorySaver
from tests.support.scenarios import LANGGRAPH, MODES, Mode, Run, in_context, open_mode, rendered

__all__ = ["in_context"]  # a fixture

# Does not compress: what a message costs is what it says.
NOISE = random.Random(1).randbytes(500).hex()
CHANNELS = ["often", "seldom", "never", "plain", "no such channel", "__start__"]


def concat(state: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    return state + [item for write in writes for item in write]


def merge(state: dict[str, Any], writes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for each in (state, *writes) for key, value in each.items()}


class Inner(TypedDict, total=False):
    often: Annotated[list[Any], DeltaChannel(concat, snapshot_frequency=2)]
    seldom: Annotated[list[Any], DeltaChannel(concat, snapshot_frequency=5)]


class State(Inner, total=False):
    never: Annotated[dict[str, Any], DeltaChannel(merge, snapshot_frequency=1000)]
    plain: int


def node(name: str) -> Any:
    def run(state: State) -> State:
        count = len(state.get("often") or [])
        update: State = {"often": [f"{name} {count}"]}
        if name == "last":
            update["plain"] = count
        if count % 3 == 0:
            update["seldom"] = [{"at": count, "by": name}]
        if count % 2 == 0:
            update["never"] = {f"{name}{count}": "x" * count}
        return update

    return run


def build(saver: BaseCheckpointSaver[Any]) -> Any:
    """Two nodes at once, a subgraph that asks, and a node that starts one channel over."""

    def ask(state: Inner) -> Inner:
        return {"often": [f"told {interrupt('tell me')}"], "seldom": ["asked"]}

    inner = StateGraph(Inner)
    inner.add_node("within", lambda state: {"often": ["within"]})
    inner.add_node("ask", ask)
    inner.add_edge(START, "within")
    inner.add_edge("within", "ask")

    builder = StateGraph(State)
    for name in ("left", "right", "last"):
        builder.add_node(name, node(name))
    builder.add_node("inner", inner.compile())
    builder.add_node("reset", lambda state: {"seldom": Overwrite(state["seldom"][-1:])})
    for name in ("left", "right"):
        builder.add_edge(START, name)
    builder.add_edge(["left", "right"], "inner")
    builder.add_edge("inner", "last")
    builder.add_edge("last", "reset")
    return builder.compile(checkpointer=saver)


async def scenario(run: Run, durability: str) -> list[Any]:
    """Turns, answers, forks of old checkpoints, forks of forks; returns what was seen on the way."""
    seen: list[Any] = []
    for turn in range(4):
        seen.append(await run.invoke({"often": [f"turn {turn}"]}, durability=durability))
        inside = (await run.state(subgraphs=True)).tasks[0].state
        seen.append(inside.values)
        if turn == 2:
            await run.update({"often": ["corrected within"]}, inside.config)
        seen.append(await run.invoke(Command(resume=f"answer {turn}"), durability=durability))
    history = await run.history()
    for back in (len(history) - 2, len(history) // 2, 3, 1):
        forked = await run.update({"often": [f"fork {back}"]}, history[back].config, as_node="last")
        seen += [(await run.state(forked)).values, await run.invoke(None, forked, durability=durability)]
        twice = await run.update({"seldom": ["twice"], "never": {"twice": back}}, forked, as_node="reset")
        seen += [(await run.state(twice)).values, (await run.state(history[back].config)).values]
    seen.append(await run.invoke({"never": {"after": "forks"}}, durability=durability))
    seen.append((await run.state()).values)
    return seen


EXIT = pytest.mark.skipif(
    LANGGRAPH < (1, 2, 15),
    reason="LangGraph puts parallel tasks' writes in an order that differs from run to run",
)


@pytest.mark.parametrize("durability", ["sync", "async", pytest.param("exit", marks=EXIT)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("in_context")
async def test_a_graph_remembers_the_same_as_with_langgraphs_checkpointer(
    mode: Mode, durability: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same graph remembers the same as with LangGraph's own checkpointer, at every checkpoint it ever had."""

    async def remembered(saver: BaseCheckpointSaver[Any]) -> list[str]:
        run = Run(build(saver), mode)
        seen = await scenario(run, durability)
        return [*rendered(seen).splitlines(), *(await run.remembered()).splitlines()]

    # Ancestries are longer than a page: each goes on where the one before ended.
    monkeypatch.setattr(_delta, "FIRST_PAGE", 5)
    monkeypatch.setattr(_delta, "LARGEST_PAGE", 5)
    expected = await remembered(OrderedMemorySaver())
    async with open_mode(mode, database_uri, snapshot_floor_bytes=0) as saver:
        assert await remembered(saver) == expected
        stored = [each async for each in saver.alist(config_of(ns=None))] if mode == "async" else saver.list(None)
        found = snapshots = 0
        for checkpoint in stored:
            snapshots += any(
                isinstance(value, _DeltaSnapshot) for value in checkpoint.checkpoint["channel_values"].values()
            )
            history = await assert_as_generic(saver, mode, checkpoint.config)
            found += sum(len(each["writes"]) for each in history.values())
        # Otherwise the comparison was of nothing with nothing.
        assert snapshots > 5
        assert found > 50


async def assert_as_generic(saver: Any, mode: Mode, config: Any, channels: Sequence[str] = CHANNELS) -> dict[str, Any]:
    """Compare with what LangGraph's generic implementation finds, through the same saver's `get_tuple`."""
    if mode == "sync":
        expected = BaseCheckpointSaver.get_delta_channel_history(saver, config=config, channels=channels)
        found = saver.get_delta_channel_history(config=config, channels=channels)
    else:
        expected = await BaseCheckpointSaver.aget_delta_channel_history(saver, config=config, channels=channels)
        found = await saver.aget_delta_channel_history(config=config, channels=channels)
    assert exactly(dict(found), dict(expected)), (found, expected)
    return dict(found)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 66, 128, 129, 200])
async def test_delta_history_equals_the_generic_one_for_any_length(mode: Mode, length: int, database_uri: str) -> None:
    """Around the size of a page (64), with the seed at the root, in the middle, and nowhere."""
    async with open_saver(f"{mode}-pool", database_uri) as face:
        saver = face if mode == "async" else face.sync
        config, middle = config_of(), length // 2
        for number in range(length):
            # A new version each time, as a delta channel has; a value where LangGraph takes its snapshot.
            versions = dict.fromkeys(["often", "seldom", "never"], f"{number:032}.5")
            values: dict[str, Any] = {"often": ["root"]} if number == 0 else {}
            if number == middle:
                values["seldom"] = _DeltaSnapshot({"middle": number})
            config = await put(face, config, f"{number:04}", values, versions=versions)
            for task in ("b", "a"):
                writes = [("often", [f"{number}{task}"]), ("never", {task: number}), ("seldom", number)]
                await face.aput_writes(config, writes, f"task {task}", f"path {task if number % 2 else ''}")

        history = await assert_as_generic(saver, mode, config)
        assert len(history["often"]["writes"]) == len(history["never"]["writes"]) == 2 * (length - 1)
        # The target's own value is no seed: what is asked for is how it came about.
        seeded = middle < length - 1
        assert len(history["seldom"]["writes"]) == 2 * (length - 1 - (middle if seeded else 0))
        assert ("seed" in history["often"]) == (length > 1)
        assert ("seed" in history["seldom"]) == seeded
        assert "seed" not in history["never"]
        # The latest, and one before it.
        assert await assert_as_generic(saver, mode, config_of()) == history
        await assert_as_generic(saver, mode, config_of("1", f"{length // 2:04}"))


@pytest.mark.parametrize("mode", MODES)
async def test_delta_history_equals_the_generic_one_for_missing_parents_and_falsy_values(
    mode: Mode, database_uri: str
) -> None:
    """Nothing there, nothing asked for, a parent that is not there, repeated names, values that look like none."""
    async with open_saver(f"{mode}-pool", database_uri) as face:
        saver = face if mode == "async" else face.sync
        root = await put(face, config_of(), "1", {"none": None, "empty": [], "false": False})
        await face.aput_writes(root, [("none", 1), ("empty", None), ("other", 2)], "t")
        child = await put(face, root, "2", {}, versions={"none": "1", "empty": "2"}, new={"empty": "2"})
        await face.aput_writes(child, [("none", "pending at the target: not part of it")], "t")
        orphan = await put(face, config_of("1", "0 never put"), "3", {"none": 1})

        for config in (root, child, orphan, config_of(), config_of("1", "4 unknown"), config_of("unknown")):
            for channels in (["none", "empty", "false", "other"], ["other", "other"], ["unknown"], []):
                await assert_as_generic(saver, mode, config, channels)
        history = await assert_as_generic(saver, mode, child, ["none", "empty", "other"])
        assert history == {
            "none": {"writes": [("t", "none", 1)], "seed": None},
            "empty": {"writes": [("t", "empty", None)], "seed": []},
            "other": {"writes": [("t", "other", 2)]},
        }
        with pytest.raises(InvalidInputError, match="not a str"):
            await face.aget_delta_channel_history(config=child, channels="none")


@pytest.mark.parametrize("mode", MODES)
async def test_a_delta_channels_conversation_costs_only_new_messages(mode: Mode, database_uri: str) -> None:
    """A conversation in a delta channel costs the log what was said, not what was said before."""

    class Conversation(TypedDict):
        messages: Annotated[list[AnyMessage], DeltaChannel(concat, snapshot_frequency=1000)]

    builder = StateGraph(Conversation)
    builder.add_node("answer", lambda state: {"messages": [HumanMessage(f"{len(state['messages'])}: {NOISE}")]})
    builder.add_edge(START, "answer")
    async with open_mode(mode, database_uri) as saver:
        run = Run(builder.compile(checkpointer=saver), mode)
        for turn in range(40):
            await run.invoke({"messages": [HumanMessage(f"turn {turn}")]})
        found = (await run.state()).values["messages"]
        assert [message.content[:7] for message in found[-2:]] == ["turn 39", "79: " + NOISE[:3]]
        assert len(found) == 80
        halves = Tables(database_uri).rows(
            """
            select sum(length(body)) from {schema}.events
            group by seq <= (select max(seq) / 2 from {schema}.events) order by max(seq)
            """
        )
        (first,), (second,) = halves
        assert second < first * 1.2
        # From the log alone, without the states that writing left in the cache.
        async with open_mode(mode, database_uri, state_cache_bytes=0) as fresh:
            assert (await Run(builder.compile(checkpointer=fresh), mode).state()).values["messages"] == found
