"""Two runs at once on one thread: both branches are kept, and the history says that they were concurrent; or the second
is refused. Who goes back in time knows of the branch that is there, and is neither."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import create_react_agent
from langgraph.types import Command, interrupt

from demo.agent import ScriptedModel, get_weather
from eventlog.errors import ConcurrentUpdateError
from langgraph.checkpoint.eventlog import EventLogSaver, HistoryEntry
from tests.saver.test_graphs import Work, line_of
from tests.support.racing import assert_clean, meeting, outcomes, refused, together
from tests.support.scenarios import MODES, Mode, Run, in_context, open_mode

__all__ = ["in_context"]  # a fixture

pytestmark = pytest.mark.parametrize("mode", MODES)

DURABILITIES = pytest.mark.parametrize("durability", ["sync", "async", "exit"])

Concurrency = Literal["branch", "strict"]
both_settings = pytest.mark.parametrize("concurrency", ["branch", "strict"])

#: What two runs do at once, given a number to tell them apart.
Act = Callable[[Run, int], Awaitable[Any]]


def history(uri: str, ns: str | None = "") -> list[HistoryEntry]:
    """The checkpoints of thread 1, oldest first, as a saver tells them that has seen nothing of all this."""
    with EventLogSaver.from_conn_string(uri) as saver:
        return list(saver.log.history("1", checkpoint_ns=ns, kinds=["checkpoint"]))


def concurrent(records: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    return [record for record in records if record.concurrent_with]


def line(saver: BaseCheckpointSaver[Any]) -> Any:
    return line_of("a", "b").compile(checkpointer=saver)


def asking(saver: BaseCheckpointSaver[Any]) -> Any:
    """A graph that asks, and then goes on."""

    def ask(state: Work) -> Work:
        return {"items": [interrupt("well?")]}

    builder = StateGraph(Work)
    builder.add_node("ask", ask)
    builder.add_node("then", lambda state: {"count": len(state["items"])})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "then")
    return builder.compile(checkpointer=saver)


async def race(
    mode: Mode, uri: str, concurrency: Concurrency, build: Callable[[Any], Any], before: Act | None, act: Act
) -> list[Any]:
    """What becomes of two runs, from what one did before."""
    async with meeting(mode, uri, build, concurrency=concurrency) as (runs, meet):
        if before is not None:
            await before(runs[0], 0)
        meet()
        found = await together(
            mode, [lambda run=run, number=number: act(run, number) for number, run in enumerate(runs)]
        )
        await check(uri, concurrency, runs[0], found)
        return found


async def check(uri: str, concurrency: Concurrency, run: Run, found: list[Any]) -> None:
    """Both branches are there and read, and the second names the first; or the second is not there at all."""
    records = history(uri)
    ids = {record.checkpoint_id for record in records}
    if concurrency == "branch":
        assert outcomes(found) == ["done", "done"], found
        (second,) = concurrent(records)
        (conflicting_id,) = second.concurrent_with
        (conflicting,) = (record for record in records if record.checkpoint_id == conflicting_id)
        assert conflicting.parent_id == second.parent_id
        assert conflicting.seq < second.seq
        assert second.fork == (second.parent_id is not None)
        for id_ in (conflicting_id, second.checkpoint_id):
            state = await run.state({"configurable": {"thread_id": "1", "checkpoint_id": id_}})
            assert state.config["configurable"]["checkpoint_id"] == id_
    else:
        error = refused(found)
        assert not concurrent(records)
        assert error.checkpoint_id not in ids
        assert error.conflicting_id in ids
        (conflicting,) = (record for record in records if record.checkpoint_id == error.conflicting_id)
        assert (error.thread_id, error.checkpoint_ns, error.parent_id) == ("1", "", conflicting.parent_id)
        for name in (error.checkpoint_id, error.conflicting_id, error.parent_id or "both start the thread", "'1'"):
            assert name in str(error)
    assert {each.config["configurable"]["checkpoint_id"] for each in await run.history()} == ids
    assert_clean(uri)


def say(durability: str = "async") -> Act:
    return lambda run, number: run.invoke({"items": [f"said {number}"]}, durability=durability)


# --- double clicks


@both_settings
@DURABILITIES
async def test_two_runs_from_one_checkpoint_conflict(
    mode: Mode, database_uri: str, concurrency: Concurrency, durability: str
) -> None:
    """Two turns from the same latest checkpoint. Refused, a run can be made again, and sees the first one's turn."""
    found = await race(mode, database_uri, concurrency, line, say(), say(durability))
    if concurrency == "strict":
        (number,) = [number for number, each in enumerate(found) if isinstance(each, ConcurrentUpdateError)]
        async with open_mode(mode, database_uri, concurrency=concurrency) as saver:
            items = (await Run(line(saver), mode).invoke({"items": ["said again"]}))["items"]
        assert [item for item in items if item.startswith("said")] == ["said 0", f"said {1 - number}", "said again"]
        assert not concurrent(history(database_uri))


@both_settings
@DURABILITIES
async def test_two_runs_on_a_new_thread_conflict(
    mode: Mode, database_uri: str, concurrency: Concurrency, durability: str
) -> None:
    """Nothing is there that could be locked; both begin."""
    await race(mode, database_uri, concurrency, line, None, say(durability))


@both_settings
async def test_two_runs_on_a_deleted_thread_conflict(mode: Mode, database_uri: str, concurrency: Concurrency) -> None:
    async def before(run: Run, number: int) -> None:
        await run.invoke({"items": ["gone"]})
        saver: Any = run.graph.checkpointer
        await (saver.adelete_thread("1") if mode == "async" else _done(saver.delete_thread("1")))

    await race(mode, database_uri, concurrency, line, before, say())


async def _done(value: Any) -> Any:
    return value


@both_settings
@pytest.mark.parametrize("stream_mode", ["values", "checkpoints"])
async def test_stream_raises_the_conflict(
    mode: Mode, database_uri: str, concurrency: Concurrency, stream_mode: Any
) -> None:
    """The error comes out of `stream` too."""

    async def act(run: Run, number: int) -> int:
        value = {"items": [f"said {number}"]}
        if mode == "sync":
            return len(list(run.graph.stream(value, run.config, stream_mode=stream_mode)))
        return len([each async for each in run.graph.astream(value, run.config, stream_mode=stream_mode)])

    await race(mode, database_uri, concurrency, line, say(), act)


@both_settings
@DURABILITIES
@pytest.mark.usefixtures("in_context")
async def test_two_answers_to_one_interrupt_conflict(
    mode: Mode, database_uri: str, concurrency: Concurrency, durability: str
) -> None:
    """Two answers to one question. In both branches the task's writes are those that were first."""
    await race(
        mode,
        database_uri,
        concurrency,
        asking,
        say(),
        lambda run, number: run.invoke(Command(resume=f"answer {number}"), durability=durability),
    )
    async with open_mode(mode, database_uri) as saver:
        state = await Run(asking(saver), mode).state()
    assert len(state.values["items"]) == 2
    assert state.next == ()


@both_settings
@pytest.mark.usefixtures("in_context")
async def test_two_answers_at_a_checkpoint_id_conflict(mode: Mode, database_uri: str, concurrency: Concurrency) -> None:
    """As a user interface does it that sends the checkpoint's id along with the answer."""
    addressed: list[Any] = []

    async def before(run: Run, number: int) -> None:
        await run.invoke({"items": ["said"]})
        addressed.append((await run.state()).config)

    await race(
        mode,
        database_uri,
        concurrency,
        asking,
        before,
        lambda run, number: run.invoke(Command(resume=f"answer {number}"), addressed[0]),
    )


@both_settings
async def test_two_state_updates_conflict(mode: Mode, database_uri: str, concurrency: Concurrency) -> None:
    await race(
        mode, database_uri, concurrency, line, say(), lambda run, number: run.update({"items": [f"update {number}"]})
    )


@both_settings
async def test_two_runs_from_an_old_checkpoint_conflict(
    mode: Mode, database_uri: str, concurrency: Concurrency
) -> None:
    """Both know of the branch that is there, and neither of the other's."""
    old: list[Any] = []

    async def before(run: Run, number: int) -> None:
        for turn in range(2):
            await run.invoke({"items": [f"turn {turn}"]})
        old.append((await run.history())[5].config)

    await race(
        mode,
        database_uri,
        concurrency,
        line,
        before,
        lambda run, number: run.invoke({"items": [f"instead {number}"]}, old[0]),
    )


@both_settings
@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
async def test_two_runs_of_an_agent_conflict(mode: Mode, database_uri: str, concurrency: Concurrency) -> None:
    cities = ["sf", "nyc"]

    def ask(run: Run, number: int) -> Awaitable[Any]:
        return run.invoke({"messages": [HumanMessage(f"what's the weather in {cities[number]}")]})

    await race(
        mode,
        database_uri,
        concurrency,
        lambda saver: create_react_agent(ScriptedModel(), [get_weather], checkpointer=saver),
        ask,
        ask,
    )


# --- one run, and who comes between


def interrupted(meddle: Callable[[], None]) -> Callable[[BaseCheckpointSaver[Any]], Any]:
    """A graph with a second step in which something else happens."""

    def second(state: Work) -> Work:
        if state["items"][-1] == "meddle":
            meddle()
        return {"items": ["second"]}

    builder = StateGraph(Work)
    builder.add_node("first", lambda state: {"count": 1})
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    return lambda saver: builder.compile(checkpointer=saver)


@both_settings
async def test_an_update_during_a_run_conflicts_with_it(
    mode: Mode, database_uri: str, concurrency: Concurrency
) -> None:
    """The run's own checkpoint gets a child that is not the run's. The first one stays: here, the update."""

    def meddle() -> None:
        with EventLogSaver.from_conn_string(database_uri, concurrency=concurrency) as saver:
            interrupted(meddle)(saver).update_state(
                {"configurable": {"thread_id": "1"}}, {"items": ["update"]}, as_node="second"
            )

    async with open_mode(mode, database_uri, concurrency=concurrency) as saver:
        run = Run(interrupted(meddle)(saver), mode)
        if concurrency == "strict":
            with pytest.raises(ConcurrentUpdateError):
                await run.invoke({"items": ["meddle"]}, durability="sync")
            assert (await run.state()).values["items"] == ["meddle", "update"]
            assert not concurrent(history(database_uri))
        else:
            await run.invoke({"items": ["meddle"]}, durability="sync")
            (second,) = concurrent(history(database_uri))
            assert second.source == "loop"
    assert_clean(database_uri)


# --- deliberately


@both_settings
@DURABILITIES
async def test_deliberate_forks_are_never_refused(
    mode: Mode, database_uri: str, concurrency: Concurrency, durability: str
) -> None:
    """However a branch is begun deliberately: it is a fork, concurrent with nothing, and never refused."""
    async with open_mode(mode, database_uri, concurrency=concurrency) as saver:
        run = Run(line(saver), mode)
        for turn in range(3):
            await run.invoke({"items": [f"turn {turn}"]}, durability="async")
        old = await run.history()
        begun = 0

        async def begin(act: Awaitable[Any]) -> Any:
            nonlocal begun
            begun += 1
            return await act

        for _ in range(2):
            await begin(run.invoke(None, old[7].config, durability=durability))
            await begin(run.invoke({"items": ["instead"]}, old[7].config, durability=durability))
        forked = await begin(run.update({"items": ["changed"]}, old[7].config, as_node="a"))
        await run.invoke(None, forked, durability=durability)
        await begin(run.update(None, old[3].config, as_node="__copy__"))
        assert old[-1].parent_config is None
        await run.update(None, old[-1].config, as_node="__copy__")
        await run.invoke({"items": ["goes on"]}, durability=durability)
    records = history(database_uri)
    assert not concurrent(records)
    assert sum(record.fork for record in records) == begun
    assert sum(record.parent_id is None for record in records) == 2
    assert_clean(database_uri)


@both_settings
@pytest.mark.usefixtures("in_context")
async def test_another_answer_to_an_old_interrupt_is_a_deliberate_fork(
    mode: Mode, database_uri: str, concurrency: Concurrency
) -> None:
    async with open_mode(mode, database_uri, concurrency=concurrency) as saver:
        run = Run(asking(saver), mode)
        await run.invoke({"items": ["said"]})
        asked = (await run.state()).config
        for number in range(3):
            await run.invoke(Command(resume=f"answer {number}"), asked)
    records = history(database_uri)
    assert sum(record.fork for record in records) == 2
    assert not concurrent(records)
    assert_clean(database_uri)


# --- subgraphs with a history of their own


def nested(saver: BaseCheckpointSaver[Any]) -> Any:
    builder = StateGraph(Work)
    builder.add_node("inner", line_of("x", "y").compile(checkpointer=True))
    builder.add_node("outer", lambda state: {"items": ["outer"]})
    builder.add_edge(START, "inner")
    builder.add_edge("inner", "outer")
    return builder.compile(checkpointer=saver)


@both_settings
@DURABILITIES
async def test_a_subgraphs_history_forks_with_its_graph(
    mode: Mode, database_uri: str, concurrency: Concurrency, durability: str
) -> None:
    """The subgraph's history forks as its graph's does: from what it was then, or, at the very start, from nothing."""
    async with open_mode(mode, database_uri, concurrency=concurrency) as saver:
        run = Run(nested(saver), mode)
        for turn in range(2):
            await run.invoke({"items": [f"turn {turn}"]}, durability="sync")
        old = [each for each in await run.history() if each.next == ("inner",)]
        for each in old:
            await run.invoke(None, each.config, durability=durability)
    records = history(database_uri, ns=None)
    assert not concurrent(records)
    assert {record.checkpoint_ns for record in records} == {"", "inner"}
    assert sum(record.checkpoint_ns == "inner" and record.parent_id is None for record in records) == 2
    assert any(record.checkpoint_ns == "inner" and record.fork for record in records)
    assert_clean(database_uri)


@both_settings
async def test_two_runs_of_a_graph_with_a_subgraph_conflict(
    mode: Mode, database_uri: str, concurrency: Concurrency
) -> None:
    """The graph's second checkpoint is found, and strictly it is refused before the subgraph has begun."""
    await race(mode, database_uri, concurrency, nested, say("sync"), say("sync"))
    inner = history(database_uri, "inner")
    assert len(inner) == (12 if concurrency == "branch" else 8)
