"""(h) `DeltaChannel`: an agent with messages stored as writes, with a snapshot after some updates.

LangGraph runs the agent on each saver, turn by turn: a turn reads the thread, replays the writes since the last
snapshot, and appends five checkpoints. Then, on the finished threads: the history of a channel with as many writes as
the frequency allows, the last 50 states of `get_state_history`, and all of them at once. "Nothing cached" is a saver
that is new to the thread.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Annotated, Any, TypedDict, cast

from langchain_core.messages import AnyMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from bench.context import Context
from bench.conversation import ScriptedModel, look_up, question
from bench.race import thread
from bench.results import Measure
from bench.savers import MeasuredSavers, open_savers
from bench.server_figures import Server
from bench.timings import Timings

__all__ = ["agent", "measure"]

CHANNEL = "messages"
TURN = "turn"
HISTORY = "history of a channel"
HISTORY_NEW = "history of a channel, nothing cached"
LAST_STATES = "last 50 states"
ALL_STATES = "all states"


def agent(saver: BaseCheckpointSaver[Any] | None, frequency: int) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The agent of `bench.conversation`, with a `DeltaChannel` for its messages."""
    channel: Any = DeltaChannel(cast("Any", _messages_delta_reducer), snapshot_frequency=frequency)
    state: Any = TypedDict("state", {"messages": Annotated[list[AnyMessage], channel]})
    model = ScriptedModel()
    builder = StateGraph(state)
    builder.add_node("model", lambda state: {CHANNEL: [model.invoke(state[CHANNEL])]})
    builder.add_node("tools", ToolNode([look_up]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=saver)


def measure(context: Context) -> list[Measure]:
    """Each frequency in a database of its own."""
    found: list[Measure] = []
    frequencies = context.pick((50, 100), (50, 100), (5,))
    for number, frequency in enumerate(frequencies):
        with context.database() as uri, open_savers(uri, others=False) as savers:
            share = 1 / len(frequencies)
            found += _measure(context, uri, savers, frequency, (number * share, (number + 1) * share))
    return found


def _measure(
    context: Context, uri: str, savers: MeasuredSavers, frequency: int, progress: tuple[float, float]
) -> list[Measure]:
    turns = context.pick(200, 60, 4)
    name = f"DeltaChannel, frequency {frequency}, {turns} turns"
    server = Server(uri)
    timings = Timings(server.wal)
    graphs = {each.name: agent(each.saver, frequency) for each in savers}
    for number in context.track(range(turns), *progress):
        runs = {
            who: partial(graph.invoke, question(number), thread("delta"), durability="sync")
            for who, graph in graphs.items()
        }
        timings.time(TURN, runs)
        if number % 50 == 10:
            server.tidy()
    wal = timings.wal
    last = (turns - min(50, turns), turns)
    found = [
        timings.measure(name, TURN),
        timings.measure(name, TURN, between=last, label=f"{TURN}, last {last[1] - last[0]}"),
        Measure(workload=name, name="WAL", unit="bytes", eventlog=wal["eventlog"], postgres=wal["postgres"]),
    ]
    server.tidy()

    longest = {each.name: _longest(each.saver, 2 * frequency) for each in savers}
    for number in range(context.pick(15, 5, 1) + 1):
        fresh = {each.name: each.fresh() if each.fresh else each.saver for each in savers}
        for saver in fresh.values():
            saver.get_tuple(thread("missing"))
        for step, asked in ((HISTORY, {each.name: each.saver for each in savers}), (HISTORY_NEW, fresh)):
            histories = {who: partial(_history, asked[who], config) for who, config in longest.items()}
            _same("the channel's history", timings.time(step, histories, counted=number > 0))
    for number in range(context.pick(5, 3, 1) + 1):
        states = {who: partial(_states, graph, 50) for who, graph in graphs.items()}
        _same("the last states", timings.time(LAST_STATES, states, counted=number > 0))
    _same("all states", timings.time(ALL_STATES, {who: partial(_states, graph) for who, graph in graphs.items()}))
    server.close()
    return [*found, *(timings.measure(name, each) for each in (HISTORY, HISTORY_NEW, LAST_STATES, ALL_STATES))]


def _longest(saver: Any, last: int) -> Any:
    """The config of the one of the last checkpoints that replays most writes."""
    configs = [each.config for each in saver.list(thread("delta"), limit=last)]
    return max(configs, key=lambda config: len(_history(saver, config)))


def _history(saver: Any, config: Any) -> list[str]:
    """The content of each write of the channel."""
    found = saver.get_delta_channel_history(config=config, channels=[CHANNEL])[CHANNEL]
    return [_contents(value) for _, _, value in found["writes"]]


def _states(graph: Any, limit: int | None = None) -> list[str]:
    """The text of each state, newest first."""
    history = graph.get_state_history(thread("delta"))
    return [_contents(each.values.get(CHANNEL, [])) for each in itertools.islice(history, limit)]


def _contents(value: Any) -> str:
    messages = value if isinstance(value, list) else [value]
    return "|".join(str(getattr(message, "content", message))[:40] for message in messages)


def _same(what: str, answers: dict[str, list[str]]) -> None:
    first, *rest = answers.values()
    if not first or any(each != first for each in rest):
        raise SystemExit(f"the savers disagree about {what}")
