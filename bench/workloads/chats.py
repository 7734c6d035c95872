"""(l) Short chats, each of three turns on its own thread, like most threads.

A turn is LangGraph's `invoke` of a graph with one node and a scripted answer: three checkpoints and two events of
writes. One chat after the other, with the sync and the async saver; 16 at once on one event loop; and 16 at once in
each of four processes, on a pool each. Where chats run at once, the savers take turns, and the figures are medians of
such turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from bench.context import Context
from bench.conversation import prose
from bench.race import thread
from bench.results import EVENTLOG, POSTGRES, Measure, measure_of
from bench.savers import open_async, open_savers
from bench.timings import Timings

__all__ = ["measure"]

WORKLOAD = "short chats"

TURNS = 3
AT_ONCE = 16
PROCESSES = 4

#: Of each pool, and of each pool in each of several processes.
CONNECTIONS, CONNECTIONS_EACH = 8, 4


def measure(context: Context) -> list[Measure]:
    """One after the other, many at once, and in several processes."""
    chats = context.pick(120, 20, 2)
    seconds = context.pick(2.0, 0.5, 0.05)
    rounds = context.pick(6, 3, 1)
    with context.database() as uri:
        found = _in_turn(context, uri, chats)
    with context.database() as uri:
        found += asyncio.run(_on_a_loop(context, uri, chats, seconds, rounds))
        found.append(_in_processes(uri, seconds, rounds))
    return found


def chat_graph(saver: BaseCheckpointSaver[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A graph of one node, which answers."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [AIMessage(prose(len(state["messages"]), 400))]})
    graph.add_edge(START, "model")
    graph.add_edge("model", END)
    return graph.compile(checkpointer=saver)


def _question(number: int) -> Any:
    return {"messages": [HumanMessage(prose(("question", number), 80))]}


def _in_turn(context: Context, uri: str, chats: int) -> list[Measure]:
    timings = Timings()
    with open_savers(uri, others=False) as savers:
        graphs = {each.name: chat_graph(each.saver) for each in savers}

        def chat(graph: Any, name: str, durability: str) -> None:
            for number in range(TURNS):
                graph.invoke(_question(number), thread(name), durability=durability)

        for number in context.track(range(chats), 0.0, 0.4):
            for durability in ("sync", "async"):
                name = f"chat, sync saver, durability {durability}"
                runs = {
                    who: partial(chat, graph, f"{durability} {number}", durability) for who, graph in graphs.items()
                }
                timings.time(name, runs, counted=number > 0)
    return [timings.measure(WORKLOAD, name) for name in timings.seconds]


async def _on_a_loop(context: Context, uri: str, chats: int, seconds: float, rounds: int) -> list[Measure]:
    timings = Timings()
    samples: dict[str, list[float]] = defaultdict(list)
    async with open_async(uri, size=CONNECTIONS) as savers:
        graphs = {each.name: chat_graph(each.saver) for each in savers}
        for number in context.track(range(chats), 0.4, 0.6):
            runs = {who: partial(_chat, graph, f"one {number}") for who, graph in graphs.items()}
            await timings.time_async("chat, async saver", runs, counted=number > 0)
        for number in context.track(range(rounds + 1), 0.6, 0.8):
            for who, graph in graphs.items():
                rate = await _rate(graph, f"loop {number}", seconds)
                if number:
                    samples[who].append(rate)
    return [
        timings.measure(WORKLOAD, "chat, async saver"),
        measure_of(WORKLOAD, f"turns, {AT_ONCE} at once, event loop", "op/s", samples),
    ]


def _in_processes(uri: str, seconds: float, rounds: int) -> Measure:
    samples: dict[str, list[float]] = defaultdict(list)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as processes:
        for number in range(rounds + 1):
            for who in (EVENTLOG, POSTGRES):
                calls = [
                    processes.submit(_process, uri, who, f"process {worker} {number}", seconds)
                    for worker in range(PROCESSES)
                ]
                rate = sum(each.result() for each in calls)
                if number:
                    samples[who].append(rate)
    return measure_of(WORKLOAD, f"turns, {PROCESSES} processes of {AT_ONCE} at once", "op/s", samples)


def _process(uri: str, who: str, name: str, seconds: float) -> float:
    async def work() -> float:
        async with open_async(uri, size=CONNECTIONS_EACH) as savers:
            return await _rate(chat_graph(savers[who].saver), name, seconds)

    return asyncio.run(work())


async def _rate(graph: Any, name: str, seconds: float) -> float:
    """Turns per second."""
    numbers = count()
    began = time.perf_counter()
    done = await asyncio.gather(*(_worker(graph, name, numbers, began + seconds) for _ in range(AT_ONCE)))
    return sum(done) / (time.perf_counter() - began)


async def _worker(graph: Any, name: str, numbers: Iterator[int], until: float) -> int:
    turns = 0
    while time.perf_counter() < until:
        await _chat(graph, f"{name} {next(numbers)}")
        turns += TURNS
    return turns


async def _chat(graph: Any, name: str) -> None:
    for number in range(TURNS):
        await graph.ainvoke(_question(number), thread(name), durability="async")
