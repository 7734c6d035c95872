"""Pruning threads with channels that are rebuilt from writes: what a survivor replays stays, and nothing else does.

What is replayed is worked out here from LangGraph's own rule (`langgraph.pregel._checkpoint`): a `DeltaChannel` that
was ever written, and has no value at the checkpoint, is rebuilt from the ancestors up to the first that has one.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.types import INTERRUPT, _DeltaSnapshot
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from langgraph.checkpoint.eventlog.lifecycle import erase
from tests.saver.test_delta_channels import build, concat, merge, scenario
from tests.support.adapters import AsyncFace, LogUnderTest, open_log_under_test
from tests.support.checkpoints import Key, config_of, put
from tests.support.memory import OrderedMemorySaver
from tests.support.scenarios import MODES, Mode, Run, in_context

__all__ = ["in_context"]  # a fixture

DELTAS = {"often", "seldom", "never"}

WAYS: dict[str, dict[str, Any]] = {"latest": {}, "last 1": {"keep_last": 1}, "last 4": {"keep_last": 4}}


def parent_of(key: Key, before: dict[Key, CheckpointTuple]) -> Key | None:
    config = before[key].parent_config
    parent = None if config is None else (*key[:2], config["configurable"]["checkpoint_id"])
    return parent if parent in before else None


def replayed(before: dict[Key, CheckpointTuple], chosen: Iterable[Key], deltas: set[str]) -> set[Key]:
    """The ancestors with writes or values that are part of what is chosen."""
    found: set[Key] = set()
    for key in chosen:
        checkpoint = before[key].checkpoint
        for channel in deltas & checkpoint["channel_versions"].keys() - checkpoint["channel_values"].keys():
            ancestor = parent_of(key, before)
            while ancestor is not None:
                found.add(ancestor)
                if channel in before[ancestor].checkpoint["channel_values"]:
                    break
                ancestor = parent_of(ancestor, before)
    return found


def chosen_by(way: dict[str, Any], before: dict[Key, CheckpointTuple]) -> set[Key]:
    """What a way of pruning chooses of one thread, apart from what that replays."""
    chosen: set[Key] = set()
    parents = {parent_of(key, before) for key in before}
    for ns in {key[1] for key in before}:
        line = sorted(key for key in before if key[1] == ns)
        chosen |= set(line[-way.get("keep_last", 1) :])
        if way:
            # The graphs here go back only by forking: a checkpoint that waits for an answer has no child.
            chosen |= {key for key in line if key not in parents}
    roots = {key[2] for key in before if key[1] == ""}
    kept = {key[2] for key in chosen if key[1] == ""}

    def is_over(key: Key) -> bool:
        root = before[key].metadata.get("parents", {}).get("")
        return ":" in key[1] and root in roots and root not in kept

    return {key for key in chosen if not is_over(key)}


async def values_at(run: Run, keys: Iterable[Key]) -> dict[Key, Any]:
    """What the graph makes of checkpoints of its root."""
    return {key: (await run.state(config_of(*key[::2]))).values for key in sorted(keys) if key[1] == ""}


async def histories_at(world: LogUnderTest, keys: Iterable[Key]) -> dict[Key, Any]:
    """What a channel that has no value there is rebuilt from."""
    found = {}
    for key in sorted(keys):
        config = config_of(key[0], key[2], key[1])
        checkpoint = (await world.reader.aget_tuple(config)).checkpoint
        channels = sorted(DELTAS & checkpoint["channel_versions"].keys() - checkpoint["channel_values"].keys())
        found[key] = dict(await world.reader.aget_delta_channel_history(config=config, channels=channels))
    return found


def unwrapped(saver: Any) -> Any:
    return saver.sync if isinstance(saver, AsyncFace) else saver


def line_graph(saver: Any, frequencies: dict[str, int]) -> Any:
    """Two nodes; one channel is written at each step, one at every third, and a plain one."""

    channels = {
        channel: Annotated[list[Any], DeltaChannel(concat, snapshot_frequency=frequency)]
        for channel, frequency in frequencies.items()
    }

    def step(state: Any) -> Any:
        count = len(state.get("often") or [])
        return {"often": [count], **({"seldom": [count]} if count % 3 == 0 else {}), "plain": [count]}

    steps: Any = TypedDict("steps", {**channels, "plain": Annotated[list[Any], operator.add]}, total=False)  # type: ignore[misc]
    builder = StateGraph(steps)
    builder.add_node("one", step)
    builder.add_node("two", step)
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    return builder.compile(checkpointer=saver)


# --- graphs


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("often", "seldom"), [(1, 1), (2, 5), (1000, 1000)])
@pytest.mark.parametrize("mode", MODES)
async def test_a_pruned_thread_has_the_values_of_an_unpruned_one(
    mode: Mode, often: int, seldom: int, way: str, database_uri: str
) -> None:
    """Pruned, forked, pruned again and gone on with, a thread has the values of one that never was."""
    async with open_log_under_test(f"{mode}-pool", database_uri, snapshot_floor_bytes=0) as world:
        graph = line_graph(unwrapped(world.saver), {"often": often, "seldom": seldom})
        pruned, other = Run(graph, mode, "pruned"), Run(graph, mode, "other")
        for turn in range(2):
            for run in (pruned, other):
                await run.invoke({"often": [f"turn {turn}"], "seldom": ["each turn"]})
                await run.update({"often": ["updated"]}, as_node="one")
                await run.invoke(None)
                history = await run.history(limit=3)
                await run.update({"seldom": ["fork"], "often": ["fork"]}, history[-1].config, as_node="one")
                await run.invoke(None)
            before = {key: each for key, each in (await world.everything()).items() if key[0] == "pruned"}
            chosen = chosen_by(WAYS[way], before)
            values, histories = await values_at(pruned, chosen), await histories_at(world, chosen)

            await world.saver.log.prune(["pruned"], **WAYS[way])

            kept = {key for key in await world.everything() if key[0] == "pruned"}
            assert kept == chosen | replayed(before, chosen, DELTAS)
            assert await values_at(pruned, chosen) == values
            assert await histories_at(world, chosen) == histories
            assert (await pruned.state()).values == (await other.state()).values
            assert (await pruned.state()).next == (await other.state()).next
            await world.check_log()
            contents = world.tables.contents()
            await world.saver.log.prune(["pruned"], **WAYS[way])
            assert world.tables.contents() == contents
        if (often, seldom, way) == (1, 1, "latest"):
            assert len(kept) == 1


@pytest.mark.parametrize("way", ["latest", "last 4"])
@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("in_context")
async def test_pruning_keeps_values_of_subgraphs_and_forks(
    mode: Mode, durability: str, way: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subgraphs that ask, channels that start over, forks of forks; ancestors in small chunks."""
    monkeypatch.setattr(erase, "CHUNK", 3)
    async with open_log_under_test(f"{mode}-pool", database_uri, snapshot_floor_bytes=0) as world:
        run = Run(build(unwrapped(world.saver)), mode)
        await scenario(run, durability)
        before = await world.everything()
        chosen = chosen_by(WAYS[way], before)
        values, histories = await values_at(run, chosen), await histories_at(world, chosen)
        assert any(
            each.pending_writes and INTERRUPT in {write[1] for write in each.pending_writes} for each in before.values()
        )

        await world.saver.log.prune(["1"], **WAYS[way])

        await world.check(before, chosen | replayed(before, chosen, DELTAS))
        assert await values_at(run, chosen) == values
        assert await histories_at(world, chosen) == histories
        for value in ({"often": ["on"]}, Command(resume="answer")):
            await run.invoke(value)
        assert "told answer" in (await run.state()).values["often"]


@pytest.mark.parametrize("which", [{0}, {1}, {2}, {0, 1}, {1, 3}])
@pytest.mark.parametrize("mode", MODES)
async def test_deleting_runs_keeps_what_other_channels_replay(mode: Mode, which: set[int], database_uri: str) -> None:
    """Of the runs that are deleted stays what the others' channels replay."""
    async with open_log_under_test(f"{mode}-pool", database_uri) as world:
        graph = line_graph(unwrapped(world.saver), {"often": 4, "seldom": 3})
        run = Run(graph, mode)
        for number in range(4):
            config = config_of("1", run_id=f"run {number}")
            await run.invoke({"often": [f"turn {number}"], "seldom": ["each turn"]}, config)
        before = await world.everything()
        names = {f"run {number}" for number in which}
        chosen = {key for key, each in before.items() if each.metadata["run_id"] not in names}
        values = await values_at(run, chosen)

        await world.saver.adelete_for_runs(sorted(names))

        await world.check(before, chosen | replayed(before, chosen, DELTAS))
        assert await values_at(run, chosen) == values


@pytest.mark.parametrize("mode", MODES)
async def test_a_channel_that_was_never_written_keeps_no_history(mode: Mode, database_uri: str) -> None:
    """There is nothing to replay: it must not keep the whole history."""

    class Steps(TypedDict, total=False):
        often: Annotated[list[Any], DeltaChannel(concat, snapshot_frequency=1)]
        never: Annotated[dict[str, Any], DeltaChannel(merge, snapshot_frequency=1)]

    builder = StateGraph(Steps)
    builder.add_node("one", lambda state: {"often": ["one"]})
    builder.add_edge(START, "one")
    async with open_log_under_test(f"{mode}-pool", database_uri) as world:
        run = Run(builder.compile(checkpointer=unwrapped(world.saver)), mode)
        for _ in range(3):
            await run.invoke({"often": ["turn"]})
        before, values = await world.everything(), (await run.state()).values
        await world.saver.aprune(["1"])
        await world.check(before, {max(before)})
        assert (await run.state()).values == values


@pytest.mark.parametrize("mode", MODES)
async def test_a_former_delta_channel_keeps_its_writes(mode: Mode, database_uri: str) -> None:
    """The application's next version has a reducer in its place, which LangGraph may still rebuild from the writes."""

    def graph(annotation: Any, saver: Any) -> Any:
        steps: Any = TypedDict("steps", {"items": annotation, "count": int}, total=False)  # type: ignore[misc]
        builder = StateGraph(steps)
        builder.add_node("one", lambda state: {"count": state.get("count", 0) + 1})
        builder.add_edge(START, "one")
        return builder.compile(checkpointer=saver)

    async def changed(saver: Any) -> Run:
        old = Run(graph(Annotated[list[Any], DeltaChannel(concat, snapshot_frequency=1000)], saver), mode)
        for turn in range(3):
            await old.invoke({"items": [turn]})
        new = Run(graph(Annotated[list[Any], operator.add], saver), mode)
        for _ in range(2):
            await new.invoke({"count": 10})
        return new

    expected = (await (await changed(OrderedMemorySaver())).state()).values
    async with open_log_under_test(f"{mode}-pool", database_uri) as world:
        new = await changed(unwrapped(world.saver))
        assert (await new.state()).values == expected
        await world.saver.aprune(["1"])
        assert (await new.state()).values == expected


# --- trees made by hand


@pytest.mark.parametrize(("seed", "chunk"), [(0, 1), (1, 2), (2, 64)])
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_pruning_random_trees_keeps_values_and_histories(
    kind: str, seed: int, chunk: int, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any tree, with values of any channel anywhere, put in any order of ids, pruned again and again."""
    monkeypatch.setattr(erase, "CHUNK", chunk)
    rng = random.Random(seed)
    async with open_log_under_test(kind, database_uri) as world:
        configs: list[Any] = [config_of()]
        versions_at: dict[Any, dict[str, str]] = {}
        for number in range(40):
            config = rng.choice(configs[-4:])
            id_ = f"{number:02}"
            versions = dict(versions_at.get(config["configurable"].get("checkpoint_id"), {}))
            written = {channel for channel in sorted(DELTAS) if rng.random() < 0.5}
            versions |= dict.fromkeys(written, id_)
            values = {channel: _DeltaSnapshot([id_]) for channel in sorted(written) if rng.random() < 0.3}
            # As LangGraph counts them: those with a value of their own just now begin again.
            counted = {channel: (1, 1) for channel in versions if channel not in values}
            config = await put(
                world.saver,
                config,
                id_,
                values,
                versions=versions,
                new=dict.fromkeys(written, id_),
                metadata={"counters_since_delta_snapshot": counted} if counted else {},
            )
            versions_at[id_] = versions
            for channel in sorted(DELTAS):
                await world.saver.aput_writes(config, [(channel, [f"{id_} {channel}"])], f"task {channel}")
            configs.append(config)
        for way in ({"keep_last": 10}, {"keep_last": 3}, {}):
            before = await world.everything()
            chosen = chosen_by(way, before)
            histories = await histories_at(world, chosen)
            assert any(history for history in histories.values())
            await world.saver.log.prune(["1"], **way)
            await world.check(before, chosen | replayed(before, chosen, DELTAS))
            assert await histories_at(world, chosen) == histories
