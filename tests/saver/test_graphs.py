"""Real graphs, end to end: what LangGraph remembers with our savers is what it remembers with its own."""

from __future__ import annotations

import operator
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AnyMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.prebuilt import create_react_agent
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from demo.agent import ScriptedModel, get_weather
from tests.support.memory import OrderedMemorySaver
from tests.support.scenarios import MODES, Mode, Run, in_context, open_mode, rendered

__all__ = ["in_context"]  # a fixture

pytestmark = [pytest.mark.portable, pytest.mark.parametrize("mode", MODES)]

Build = Callable[[BaseCheckpointSaver[Any]], Any]


async def compare(
    mode: Mode, uri: str, build: Build, scenario: Callable[[Run], Awaitable[Any]], **settings: Any
) -> list[str]:
    """Run a scenario with both checkpointers; returns, line by line, what both remember."""

    async def remembered(saver: BaseCheckpointSaver[Any]) -> list[str]:
        run = Run(build(saver), mode)
        outcome = await scenario(run)
        return [*rendered(outcome).splitlines(), *(await run.remembered()).splitlines()]

    expected = await remembered(OrderedMemorySaver())
    # A snapshot at nearly every step: what they hold is read, too.
    async with open_mode(mode, uri, **{"snapshot_floor_bytes": 0, **settings}) as saver:
        assert await remembered(saver) == expected
    return expected


class Conversation(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Work(TypedDict, total=False):
    items: Annotated[list[str], operator.add]
    count: int


def step(name: str) -> Callable[[Work], Work]:
    def run(state: Work) -> Work:
        return {"items": [f"{name} after {len(state.get('items', []))}"], "count": state.get("count", 0) + 1}

    return run


def line_of(*names: str) -> StateGraph[Any, Any, Any, Any]:
    """A graph of steps, one after the other."""
    builder = StateGraph(Work)
    for name in names:
        builder.add_node(name, step(name))
    builder.add_edge(START, names[0])
    for one, other in pairwise(names):
        builder.add_edge(one, other)
    return builder


# --- agents


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
async def test_an_agent_remembers_its_turns(mode: Mode, database_uri: str) -> None:
    """Three turns of the guide's agent, the last one about what was said before."""

    async def scenario(run: Run) -> list[str]:
        for text in ("what's the weather in sf", "and in nyc?", "which cities did I ask about?"):
            found = await run.invoke({"messages": [HumanMessage(text)]})
        return [message.content for message in found["messages"]]

    remembered = await compare(
        mode,
        database_uri,
        lambda saver: create_react_agent(ScriptedModel(), [get_weather], checkpointer=saver),
        scenario,
    )
    assert remembered[-1]
    assert any("You asked about sf and nyc." in line for line in remembered)


async def test_trimmed_conversations_are_restored(mode: Mode, database_uri: str) -> None:
    """Messages are replaced by id, removed, and all removed: lists that do not only grow."""

    def answer(state: Conversation) -> dict[str, Any]:
        messages = state["messages"]
        if len(messages) > 8:
            return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), *messages[-2:]]}
        if len(messages) > 5:
            return {"messages": [RemoveMessage(str(messages[0].id)), HumanMessage("edited", id=messages[1].id)]}
        return {"messages": [HumanMessage("echo " * 50 + str(messages[-1].content), id=f"answer {messages[-1].id}")]}

    builder = StateGraph(Conversation)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")

    async def scenario(run: Run) -> Any:
        return [await run.invoke({"messages": [HumanMessage(f"turn {turn}", id=f"{turn}")]}) for turn in range(8)]

    await compare(mode, database_uri, lambda saver: builder.compile(checkpointer=saver), scenario)


# --- interrupts


@pytest.mark.usefixtures("in_context")
async def test_interrupted_nodes_resume(mode: Mode, database_uri: str) -> None:
    """A node that asks twice, a breakpoint before another, and what is pending in between."""

    def ask(state: Work) -> Work:
        first = interrupt({"question": "go on?", "items": state["items"]})
        second = interrupt("sure?")
        return {"items": [first, second]}

    builder = line_of("prepare", "finish")
    builder.add_node("ask", ask)
    builder.add_edge("finish", "ask")

    async def scenario(run: Run) -> Any:
        seen = [await run.invoke({"items": ["start"]})]
        for value in (None, Command(resume="yes"), Command(resume="really"), None):
            seen += [await run.state(), await run.invoke(value)]
        return seen

    remembered = await compare(
        mode, database_uri, lambda saver: builder.compile(checkpointer=saver, interrupt_before=["finish"]), scenario
    )
    assert any("'really'" in line for line in remembered)


@pytest.mark.usefixtures("in_context")
async def test_concurrent_interrupts_are_answered_in_any_order(mode: Mode, database_uri: str) -> None:
    """Two nodes ask at the same time and are answered by name, one after the other, in either order."""

    def ask(name: str) -> Callable[[Work], Work]:
        return lambda state: {"items": [f"{name}: {interrupt(name)}"]}

    builder = StateGraph(Work)
    for name in ("a", "b"):
        builder.add_node(name, ask(name))
        builder.add_edge(START, name)

    async def scenario(run: Run) -> Any:
        seen = []
        await run.invoke({"items": []})
        for wanted in ("b", "a"):
            pending = {each.value: each.id for each in (await run.state()).interrupts}
            seen += [await run.invoke(Command(resume={pending[wanted]: f"for {wanted}"})), await run.state()]
        return seen

    await compare(mode, database_uri, lambda saver: builder.compile(checkpointer=saver), scenario)


# --- subgraphs and tasks


@pytest.mark.parametrize("own", [None, True], ids=["shared", "of its own"])
@pytest.mark.usefixtures("in_context")
async def test_an_interrupted_subgraph_is_updated_and_resumed(mode: Mode, database_uri: str, own: bool | None) -> None:
    """A graph in a graph, interrupted inside, corrected inside, and resumed; twice on one thread."""

    def ask(state: Work) -> Work:
        return {"items": [f"told {interrupt('tell me')}"]}

    inner = line_of("first", "second")
    inner.add_node("ask", ask)
    inner.add_edge("second", "ask")
    outer = line_of("before", "after")
    outer.add_node("inner", inner.compile(checkpointer=own))
    outer.add_edge("after", "inner")

    async def scenario(run: Run) -> Any:
        seen = []
        for turn in ("one", "two"):
            seen += [await run.invoke({"items": [turn]}), await run.state(subgraphs=True)]
            inside = seen[-1].tasks[0].state.config
            await run.update({"items": [f"corrected in {turn}"]}, inside)
            seen += [await run.history(inside), await run.invoke(Command(resume=turn)), await run.state()]
        return seen

    remembered = await compare(mode, database_uri, lambda saver: outer.compile(checkpointer=saver), scenario)
    assert any("inner" in line and "checkpoint_ns" in line for line in remembered)


async def test_fan_out_results_keep_the_order_of_the_items(mode: Mode, database_uri: str) -> None:
    """As many tasks as there are items, at once; their results come in the order of the items."""

    class Summary(BaseModel):
        of: str
        length: int

    class Reduced(TypedDict, total=False):
        items: list[str]
        summaries: Annotated[list[Any], operator.add]

    builder = StateGraph(Reduced)
    builder.add_node("split", lambda state: {"items": [f"item {n}" for n in range(len(state["items"]) * 10)]})
    builder.add_node("work", lambda item: {"summaries": [Summary(of=item, length=len(item)).model_dump()]})
    builder.add_node("join", lambda state: {"items": state["items"][:1]})
    builder.add_edge(START, "split")
    builder.add_conditional_edges("split", lambda state: [Send("work", item) for item in state["items"]], ["work"])
    builder.add_edge("work", "join")

    async def scenario(run: Run) -> Any:
        return [await run.invoke({"items": ["x"] * turn}) for turn in (1, 2)]

    await compare(mode, database_uri, lambda saver: builder.compile(checkpointer=saver), scenario)


async def test_a_failed_steps_finished_tasks_are_not_repeated(mode: Mode, database_uri: str) -> None:
    """What the other tasks of the step wrote is kept, and not done again when the run goes on."""

    def build(saver: BaseCheckpointSaver[Any]) -> Any:
        failures = iter([True, False])

        def fail_once(state: Work, config: RunnableConfig) -> Work:
            if next(failures):
                # LangGraph cancels what still runs: fail only when the other's writes are saved.
                thread = {"configurable": {"thread_id": config["configurable"]["thread_id"]}}
                deadline = time.monotonic() + 240
                while time.monotonic() < deadline and not ((found := saver.get_tuple(thread)) and found.pending_writes):
                    time.sleep(0.01)
                raise ValueError("not yet")
            return {"items": ["failed before"]}

        builder = StateGraph(Work)
        builder.add_node("fails", fail_once)
        builder.add_node("works", step("works"))
        builder.add_edge(START, "fails")
        builder.add_edge(START, "works")
        return builder.compile(checkpointer=saver)

    async def scenario(run: Run) -> Any:
        with pytest.raises(ValueError, match="not yet"):
            await run.invoke({"items": ["start"]})
        return [await run.state(), await run.invoke(None)]

    remembered = await compare(mode, database_uri, build, scenario)
    assert any("ValueError('not yet')" in line for line in remembered)


@pytest.mark.usefixtures("in_context")
async def test_an_entrypoint_gets_its_previous_value(mode: Mode, database_uri: str) -> None:
    """An entrypoint with tasks that remembers what it saved last time."""

    @task
    def square(number: int) -> int:
        return number * number

    def build(saver: BaseCheckpointSaver[Any]) -> Any:
        if mode == "async":

            @entrypoint(checkpointer=saver)
            async def total(numbers: list[int], *, previous: Any = None) -> Any:
                squares = [await square(number) for number in numbers]
                return entrypoint.final(value=squares, save={"sum": sum(squares) + (previous or {"sum": 0})["sum"]})

            return total

        @entrypoint(checkpointer=saver)
        def total_sync(numbers: list[int], *, previous: Any = None) -> Any:
            squares = [future.result() for future in [square(number) for number in numbers]]
            return entrypoint.final(value=squares, save={"sum": sum(squares) + (previous or {"sum": 0})["sum"]})

        total_sync.name = "total"
        return total_sync

    async def scenario(run: Run) -> Any:
        return [await run.invoke([1, 2, 3]), await run.invoke([4])]

    remembered = await compare(mode, database_uri, build, scenario)
    assert any("__previous__.sum = 30" in line for line in remembered)


# --- time


async def test_old_checkpoints_are_replayed_and_forked(mode: Mode, database_uri: str) -> None:
    """Forks off old checkpoints: played again, changed, copied, cleared; then forks of forks."""

    async def scenario(run: Run) -> Any:
        for turn in range(3):
            await run.invoke({"items": [f"turn {turn}"]})
        history = await run.history()
        seen = [await run.invoke(None, history[7].config), await run.history(limit=3)]
        forked = await run.update({"items": ["changed"]}, history[9].config, as_node="a")
        seen += [forked, await run.invoke(None, forked), await run.state(history[4].config)]
        again = await run.update({"items": ["changed again"]}, forked, as_node="b")
        seen += [await run.invoke({"items": ["new input"]}, again)]
        copied = await run.update(None, history[2].config, as_node="__copy__")
        seen += [await run.state(copied), await run.invoke(None, copied)]
        cleared = await run.update(None, history[5].config, as_node=END)
        seen += [await run.state(cleared), await run.update({"count": 100})]
        seen += [await run.history(before=history[4].config), await run.history(filter={"source": "update"})]
        return seen

    remembered = await compare(
        mode, database_uri, lambda saver: line_of("a", "b", "c").compile(checkpointer=saver), scenario
    )
    assert sum("'changed'" in line for line in remembered) > 3


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.usefixtures("in_context")
async def test_each_durability_mode_saves_what_langgraph_promises(
    mode: Mode, database_uri: str, durability: str
) -> None:
    """When LangGraph saves: before the next step, during it, or at the end, interrupts included."""

    def ask(state: Work) -> Work:
        return {"items": [interrupt("tell me")]}

    builder = line_of("a", "b", "c")
    builder.add_node("ask", ask)
    builder.add_edge("c", "ask")

    async def scenario(run: Run) -> Any:
        seen = []
        for turn in ("one", "two"):
            seen += [await run.invoke({"items": [turn]}, durability=durability), await run.state()]
            seen += [await run.invoke(Command(resume=turn), durability=durability), await run.state()]
        return seen

    remembered = await compare(mode, database_uri, lambda saver: builder.compile(checkpointer=saver), scenario)
    steps = sum(".metadata.step = " in line for line in remembered)
    # Proof that the option did something.
    assert steps < 20 if durability == "exit" else steps > 20


async def test_a_history_longer_than_a_page_is_listed(mode: Mode, database_uri: str) -> None:
    """More checkpoints than one page of a listing, read from the front and stopped early."""

    async def scenario(run: Run) -> Any:
        for turn in range(110):
            await run.invoke({"items": [f"turn {turn}"]})
        return [await run.history(limit=5), len(await run.history())]

    build = lambda saver: line_of("only").compile(checkpointer=saver)  # noqa: E731
    assert len(await compare(mode, database_uri, build, scenario, snapshot_floor_bytes=8192)) > 300
