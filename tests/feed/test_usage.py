"""The projection that comes with the package: what threads and runs used."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from psycopg.rows import dict_row

from projections.usage import Usage
from tests.support.adapters import AsyncFace, open_saver
from tests.support.checkpoints import TEXTS, config_of, put

pytestmark = [pytest.mark.portable, pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])]

Row = dict[str, Any]


def used(uri: str) -> dict[tuple[str, str], Row]:
    with psycopg.connect(uri, row_factory=dict_row) as conn:
        return {(row["thread_id"], row["run_id"]): row for row in conn.execute("select * from eventlog_views.usage")}


def answer(number: int, tokens: tuple[int, int] = (10, 5), **fields: Any) -> AIMessage:
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
    return AIMessage(f"answer {number}", id=f"m{number}", usage_metadata=usage, **fields)


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def agent(saver: Any) -> Any:
    """A graph that answers, in a subgraph, with what it used."""

    def model(state: State) -> State:
        return {"messages": [answer(len(state["messages"]), (len(state["messages"]), 5))]}

    inner = StateGraph(State).add_node("model", model).add_edge(START, "model").compile()
    outer = StateGraph(State).add_node("inner", inner).add_edge(START, "inner")
    return outer.compile(checkpointer=saver.sync if isinstance(saver, AsyncFace) else saver)


async def invoke(kind: str, graph: Any, text: str, config: Any) -> None:
    if kind.startswith("sync"):
        graph.invoke({"messages": [HumanMessage(text)]}, config)
    else:
        await graph.ainvoke({"messages": [HumanMessage(text)]}, config)


async def test_usage_of_a_graph_counts_each_message_once(kind: str, database_uri: str) -> None:
    """Each message counts once, though the subgraph's parent writes it again; runs by what the metadata says."""
    async with open_saver(kind, database_uri) as saver:
        graph = agent(saver)
        for run in ("r1", "r2"):
            config = {"configurable": {"thread_id": "1"}, "metadata": {"run_id": run}}
            await invoke(kind, graph, "hi", config)
        applied = await saver.log.project(Usage(), batch_events=3)
        rows = used(database_uri)
        assert rows.keys() == {("1", "r1"), ("1", "r2")}
        assert [(row["input_tokens"], row["output_tokens"], row["total_tokens"]) for row in rows.values()] == [
            (1, 5, 6),
            (3, 5, 8),
        ]
        assert sum(row["events"] for row in rows.values()) == applied["usage"]
        assert all(row["steps"] >= 1 and row["first_at"] < row["last_at"] for row in rows.values())
        with psycopg.connect(database_uri) as conn:
            assert conn.execute("select sum(octet_length(body)) from eventlog.events").fetchone() == (
                sum(row["bytes"] for row in rows.values()),
            )


async def test_messages_of_any_shape_count_once(kind: str, database_uri: str) -> None:
    """A repeated write, messages without an id, as dicts, inside of other values; and what only looks like one."""
    async with open_saver(kind, database_uri) as saver:
        config = await put(saver, config_of("1"), "a", {}, metadata={"run_id": "r", "source": "loop"})
        anonymous = answer(1).model_copy(update={"id": None})
        for _ in range(2):
            await saver.aput_writes(config, [("messages", [answer(0)])], "t1")
            await saver.aput_writes(config, [("messages", [anonymous, anonymous])], "t2")
        as_dict = {"id": "d", "usage_metadata": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}
        await saver.aput_writes(config, [("deep", {"list": [as_dict]}), ("messages", answer(0))], "t3")
        odd = {"usage_metadata": {"input_tokens": -1, "output_tokens": "9", "total_tokens": 1 << 70}}
        await saver.aput_writes(config, [("x", [odd, {"usage_metadata": 7}]), ("__pregel_tasks", [answer(8)])], "t4")
        await saver.log.project(Usage())
        row = used(database_uri)["1", "r"]
        assert (row["input_tokens"], row["output_tokens"], row["total_tokens"]) == (31, 16, 47)
        assert row["steps"] == 1


async def test_writes_stored_as_differences_are_counted(kind: str, database_uri: str) -> None:
    """A write that is stored as a difference from the state is worked out."""
    history = [HumanMessage(text, id=f"h{number}") for number, text in enumerate(TEXTS)]
    async with open_saver(kind, database_uri) as saver:
        config = await put(saver, config_of("1"), "a", {"messages": history}, metadata={"run_id": "r"})
        await saver.aput_writes(config, [("summary", [*history, answer(1)])], "t1")
        with psycopg.connect(database_uri) as conn:
            assert conn.execute("select base_seq from eventlog.events where kind = 2").fetchone() == (1,)
        await saver.log.project(Usage())
        assert used(database_uri)["1", "r"]["total_tokens"] == 15


async def test_copies_add_no_usage_and_deleted_threads_are_forgotten(kind: str, database_uri: str) -> None:
    """A copy has used no tokens. What is pruned stays counted; of a deleted thread nothing is left."""
    async with open_saver(kind, database_uri) as saver:
        config = await put(saver, config_of("1"), "a", {"x": 1}, metadata={"run_id": "r"})
        await saver.aput_writes(config, [("messages", [answer(1)])], "t1")
        config = await put(saver, config, "b", {"x": [*TEXTS]}, metadata={"run_id": "r"})
        await saver.aput_writes(config, [("messages", [answer(2)])], "t2")
        await saver.acopy_thread("1", "2")
        # One event at a time: the copy's record comes in another batch than what it speaks for.
        await saver.log.project(Usage(), batch_events=1)
        rows = used(database_uri)
        assert {key: row["total_tokens"] for key, row in rows.items()} == {("1", "r"): 30, ("2", "r"): 0}
        assert rows["2", "r"]["events"] == 4
        copied = await put(saver, config_of("2", "b"), "c", {"x": 3}, metadata={"run_id": "r2"})
        await saver.aput_writes(copied, [("messages", [answer(3)])], "t3")
        await saver.log.prune(["1"], keep_last=1)
        await saver.log.project(Usage())
        assert used(database_uri)["1", "r"] == rows["1", "r"]
        await saver.adelete_thread("1")
        # Events before and after it are in one batch.
        config = await put(saver, config_of("1"), "d", {"x": 1}, metadata={"run_id": "r3"})
        await saver.log.project(Usage())
        again = used(database_uri)
        assert {key for key in again if key[0] == "1"} == {("1", "r3")}
        assert again["2", "r2"]["total_tokens"] == 15
        with psycopg.connect(database_uri) as conn:
            left = conn.execute("select thread_id, seq from eventlog_views.usage_messages").fetchall()
            assert {thread_id for thread_id, _ in left} == {"2"}


async def test_relocated_events_are_not_counted_again(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        config = config_of("1")
        for number in range(5):
            config = await put(saver, config, f"c{number}", {"x": [*TEXTS, number]}, metadata={"run_id": "r"})
            await saver.aput_writes(config, [("messages", [answer(number)])], f"t{number}")
        await saver.log.project(Usage())
        before = used(database_uri)
        await saver.log.prune(["1"], keep_last=2)
        with psycopg.connect(database_uri) as conn:
            assert conn.execute("select count(*) from eventlog.events where as_of is not null and kind < 3").fetchone()
        await saver.log.project(Usage())
        assert used(database_uri) == before


async def test_usage_works_in_another_schema(kind: str, empty_database_uri: str) -> None:
    async with open_saver(kind, empty_database_uri, schema="my log") as saver:
        await saver.setup()
        config = await put(saver, config_of("1"), "a", {"x": 1})
        await saver.aput_writes(config, [("messages", [answer(1)])], "t1")
        for views_schema, where in ((None, "my log_views"), ("mine", "mine")):
            view = Usage("my log", views_schema)
            await saver.log.rebuild_projection(view)
            await saver.log.project(view)
            with psycopg.connect(empty_database_uri) as conn:
                tokens = conn.execute(f'select run_id, total_tokens from "{where}".usage'.encode()).fetchall()
            assert tokens == [("", 15)]
