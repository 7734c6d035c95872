"""(c) A step of 100 parallel tasks, in a real graph, by the sync and the async savers.

``step`` is one run of a graph with a plan that sends 100 tasks and collects their results. It includes all of
LangGraph, so ``no saver`` is shown beside it: the same graph without a checkpointer. ``calls`` are the calls that
LangGraph makes of its saver in such a run, repeated from as many threads as LangGraph has, or by as many tasks of the
event loop as there are calls.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from bench.context import Context
from bench.conversation import prose
from bench.race import thread
from bench.recorder import Call, Recorder
from bench.results import EVENTLOG, POSTGRES, Measure, measure_of
from bench.savers import MeasuredSavers, agree, open_async, open_savers
from bench.timings import Timings

__all__ = ["measure"]

#: Threads that LangGraph's executor has, on two cores; and connections of each pool.
THREADS = 6
CONNECTIONS = 16

NO_SAVER = "no saver"

EMPTY: dict[str, list[str]] = {"topics": [], "found": []}


class State(TypedDict):
    """The subjects to look up, and the results."""

    topics: list[str]
    found: Annotated[list[str], operator.add]


def graph(checkpointer: Any, tasks: int) -> Any:
    """plan → 100 × look up → collect."""

    def plan(state: State) -> dict[str, Any]:
        return {"topics": [f"topic {number}" for number in range(tasks)]}

    def look_up(state: Any) -> dict[str, Any]:
        return {"found": [prose(state, 300)]}

    def collect(state: State) -> dict[str, Any]:
        return {"topics": []}

    def send(state: State) -> list[Send]:
        return [Send("look_up", topic) for topic in state["topics"]]

    builder = StateGraph(State)
    builder.add_node("plan", plan)
    builder.add_node("look_up", look_up)
    builder.add_node("collect", collect)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", send, ["look_up"])
    builder.add_edge("look_up", "collect")
    return builder.compile(checkpointer=checkpointer)


def durable(compiled: Any) -> dict[str, Any]:
    """The keyword arguments for LangGraph's `durability`, which it refuses without a saver."""
    return {} if compiled.checkpointer is None else {"durability": "sync"}


def recorded(tasks: int, thread_id: str) -> list[Call]:
    """LangGraph's calls of its saver in one run."""
    recorder = Recorder()
    graph(recorder, tasks).invoke(EMPTY, thread(thread_id), durability="sync")
    return recorder.take()


def measure(context: Context) -> list[Measure]:
    """Steps, and the calls alone, each with the sync and with the async savers."""
    tasks = context.pick(100, 100, 5)
    rounds = context.pick(12, 4, 1)
    name = f"fan-out, {tasks} tasks"
    with context.database() as uri, open_savers(uri, others=False, size=CONNECTIONS) as savers:
        found = _sync(context, savers, name, tasks, rounds)
    with context.database() as uri:
        return [*found, *asyncio.run(_async(context, uri, name, tasks, rounds))]


def _sync(context: Context, savers: MeasuredSavers, name: str, tasks: int, rounds: int) -> list[Measure]:
    graphs = {each.name: graph(each.saver, tasks) for each in savers}
    graphs[NO_SAVER] = graph(None, tasks)
    graphs["memory"] = graph(InMemorySaver(), tasks)
    steps, calls = Timings(), Timings()

    def run(compiled: Any, number: int) -> None:
        values = compiled.invoke(EMPTY, thread(f"step-{number}"), **durable(compiled))
        check(values, tasks)

    for number in context.track(range(rounds + 1), 0.0, 0.25):
        runs = {who: partial(run, compiled, number) for who, compiled in graphs.items()}
        steps.time("step, sync", runs, counted=number > 0)
    count = 1
    with ThreadPoolExecutor(THREADS) as executor:
        for number in context.track(range(rounds + 1), 0.25, 0.5):
            thread_id = f"calls-{number}"
            made = recorded(tasks, thread_id)
            count = sum(call.method != "get_tuple" for call in made)
            runs = {each.name: partial(_make, executor, each.saver, made) for each in savers}
            calls.time("calls, sync", runs, counted=number > 0)
            agree({each.name: each.saver.get_tuple(thread(thread_id)) for each in savers})
    return [steps.measure(name, "step, sync"), _rate(calls, name, "calls, sync", count)]


def _make(executor: ThreadPoolExecutor, saver: Any, calls: Sequence[Call]) -> None:
    """Make the calls between two checkpoints in parallel, like LangGraph."""
    for batch in batches(calls):
        list(executor.map(lambda call: getattr(saver, call.method)(*call.args), batch))


async def _async(context: Context, uri: str, name: str, tasks: int, rounds: int) -> list[Measure]:
    async with open_async(uri, size=CONNECTIONS) as savers:
        graphs = {each.name: graph(each.saver, tasks) for each in savers}
        graphs[NO_SAVER] = graph(None, tasks)
        graphs["memory"] = graph(InMemorySaver(), tasks)
        steps, calls = Timings(), Timings()

        async def run(compiled: Any, number: int) -> None:
            values = await compiled.ainvoke(EMPTY, thread(f"step-{number}"), **durable(compiled))
            check(values, tasks)

        for number in context.track(range(rounds + 1), 0.5, 0.75):
            runs: dict[str, Callable[[], Awaitable[None]]] = {
                who: partial(run, compiled, number) for who, compiled in graphs.items()
            }
            await steps.time_async("step, async", runs, counted=number > 0)
        count = 1
        for number in context.track(range(rounds + 1), 0.75, 1.0):
            thread_id = f"calls-{number}"
            made = recorded(tasks, thread_id)
            count = sum(call.method != "get_tuple" for call in made)
            again = {each.name: partial(_amake, each.saver, made) for each in savers}
            await calls.time_async("calls, async", again, counted=number > 0)
            agree({each.name: await each.saver.aget_tuple(thread(thread_id)) for each in savers})
    return [steps.measure(name, "step, async"), _rate(calls, name, "calls, async", count)]


async def _amake(saver: Any, calls: Sequence[Call]) -> None:
    for batch in batches(calls):
        await asyncio.gather(*(getattr(saver, f"a{call.method}")(*call.args) for call in batch))


def batches(calls: Sequence[Call]) -> list[list[Call]]:
    """Without reads: each checkpoint by itself, and all writes between two of them together."""
    found: list[list[Call]] = []
    for call in calls:
        if call.method == "put":
            found += [[call], []]
        elif call.method == "put_writes" and found:
            found[-1].append(call)
    return [batch for batch in found if batch]


def check(values: dict[str, Any], tasks: int) -> None:
    """Without all tasks of the graph, nothing is measured."""
    if len(values["found"]) != tasks:
        raise SystemExit(f"{len(values['found'])} of {tasks} tasks arrived")


def _rate(timings: Timings, workload: str, name: str, count: int) -> Measure:
    rates = {who: [count / each for each in seconds] for who, seconds in timings.seconds[name].items()}
    return measure_of(workload, name, "op/s", {who: rates[who] for who in (EVENTLOG, POSTGRES)})
