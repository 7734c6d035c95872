"""Retention of threads with `DeltaChannel`s: what they replay is relocated as it is."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph

from tests.support.aging import DAY, TEXTS, Log, log
from tests.support.checkpoints import listed
from tests.support.soundness import assert_sound, projected

__all__ = ["log"]  # a fixture

pytestmark = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])


async def test_writes_that_delta_channels_replay_are_relocated(log: Log) -> None:
    """What they replay is relocated as it is: the writes of ancestors back to a stored value, and no more."""

    class State(TypedDict, total=False):
        often: Annotated[list[Any], DeltaChannel(concat, snapshot_frequency=7)]
        never: Annotated[list[Any], DeltaChannel(concat, snapshot_frequency=1000)]
        other: str

    def build(saver: Any, schema: Any) -> Any:
        graph = StateGraph(schema)
        graph.add_node("say", lambda state: {"often": [TEXTS[len(state.get("often") or [])]], "other": "x"})
        graph.add_edge(START, "say")
        return graph.compile(checkpointer=saver)

    config: Any = {"configurable": {"thread_id": "1"}}
    graph = build(log.saver, State)
    for turn in range(12):
        await graph.ainvoke({"often": [f"turn {turn}"], "never": [turn] if turn < 3 else []}, config)
        log.clock.advance(DAY)
    before = (await graph.aget_state(config)).values
    assert len(before["never"]) == 3
    total = len(await log.everything())

    for days in (5, 2):
        await log.saver.log.retain(days * DAY)
        assert_sound(log.tables)
        assert (await build(log.reader, State).aget_state(config)).values == before
        rows = projected(log.tables, keyframes=False)
        await log.saver.log.rebuild()
        assert projected(log.tables, keyframes=False) == rows
        assert (await build(log.reader, State).aget_state(config)).values == before
    # "never" needs everything; without it, only what "often" replays stays.
    assert len(await log.everything()) == total
    await graph.ainvoke({"often": ["later"]}, config)
    after = (await graph.aget_state(config)).values
    assert after["often"] == [*before["often"], "later", after["often"][-1]]


async def test_delta_channels_keep_no_more_than_they_replay(log: Log) -> None:
    """With values stored now and then, history ends behind the last one."""

    class State(TypedDict, total=False):
        often: Annotated[list[Any], DeltaChannel(concat, snapshot_frequency=7)]

    graph = StateGraph(State)
    graph.add_node("say", lambda state: {"often": [TEXTS[len(state.get("often") or [])]]})
    graph.add_edge(START, "say")
    compiled = graph.compile(checkpointer=log.saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    for turn in range(12):
        await compiled.ainvoke({"often": [f"turn {turn}"]}, config)
        log.clock.advance(DAY)
    before = (await compiled.aget_state(config)).values
    log.clock.advance(30 * DAY)

    await log.saver.log.retain(5 * DAY)

    found = await listed(log.reader, config)
    assert 1 < len(found) <= 8
    assert "often" in found[-1].checkpoint["channel_values"]
    assert all("often" not in each.checkpoint["channel_values"] for each in found[:-1])
    assert (await compiled.aget_state(config)).values == before
    assert_sound(log.tables)


def concat(state: list[Any], writes: Any) -> list[Any]:
    return state + [item for write in writes for item in write]
