"""Subgraphs of a run that goes on after its thread was deleted: they cannot bring it back."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph

from eventlog.errors import ThreadDeletedError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, checkpoint_of, config_of, listed, put

pytestmark = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])


@pytest.mark.parametrize("own", [None, True], ids=["of a call", "that remembers"])
async def test_a_running_subgraph_cannot_bring_a_deleted_thread_back(
    kind: str, own: bool | None, database_uri: str
) -> None:
    """Its namespaces are new to the log, or were erased: what it runs under is gone."""

    class State(TypedDict):
        seen: Annotated[list[str], operator.add]

    inner = StateGraph(State)
    inner.add_node("inside", lambda state: {"seen": ["inside"]})
    inner.add_edge(START, "inside")
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver, open_saver(kind, database_uri) as deleter:
        subgraph = inner.compile(checkpointer=own)

        async def outside(state: State, config: RunnableConfig) -> Any:
            await subgraph.ainvoke({"seen": ["called"]}, config)
            await deleter.adelete_thread("1")
            return await subgraph.ainvoke({"seen": ["called again"]}, config)

        outer = StateGraph(State)
        outer.add_node("outside", outside)
        outer.add_edge(START, "outside")
        graph = outer.compile(checkpointer=saver)

        with pytest.raises(ThreadDeletedError):
            # "sync": a root checkpoint that is saved after the deletion would begin the thread again.
            await graph.ainvoke({"seen": ["start"]}, {"configurable": {"thread_id": "1"}}, durability="sync")

        assert await listed(saver, None) == []
        assert {kind for (kind,) in tables.rows("select kind from {schema}.events")} == {3}

        # Starting afresh is another matter.
        graph = outer_of(subgraph, State).compile(checkpointer=saver)
        found = await graph.ainvoke({"seen": ["start"]}, {"configurable": {"thread_id": "1"}})
        assert found["seen"][:1] == ["start"]
        assert {found.config["configurable"]["checkpoint_ns"] for found in await listed(saver, None)} >= {""}


def outer_of(subgraph: Any, schema: Any) -> Any:
    outer = StateGraph(schema)
    outer.add_node("outside", subgraph)
    outer.add_edge(START, "outside")
    return outer


async def test_a_subgraphs_first_event_waits_for_a_running_erasure(kind: str, database_uri: str) -> None:
    """One that has not committed yet, and cannot have seen the subgraph's stream."""
    tables = Tables(database_uri)
    under = {"checkpoint_map": {"": "a4"}}
    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of(), "a4", {"x": 1})
        with psycopg.connect(database_uri) as conn:
            conn.execute("select eventlog.delete_thread_v1('1')")
            late = [
                asyncio.ensure_future(put(saver, config_of("1", ns="sub:task", **under), "b1", {"x": 1})),
                asyncio.ensure_future(
                    saver.aput_writes(config_of("1", "b1", ns="other:task", **under), [("x", 1)], "task")
                ),
            ]
            await asyncio.sleep(0.3)
            assert not any(each.done() for each in late)
        for each in late:
            with pytest.raises(ThreadDeletedError, match="a4"):
                await each
    assert tables.rows("select kind, checkpoint_ns from {schema}.events") == [(3, "")]


async def test_an_erasure_includes_a_first_event_committed_while_it_waits(kind: str, database_uri: str) -> None:
    """The erasure that waits for it takes it along."""
    tables = Tables(database_uri)
    for operation in ("delete", "prune"):
        async with open_saver(kind, database_uri) as saver:
            root = await put(saver, config_of(operation), "a1", {"x": 1})
            await put(saver, root, "a2", {"x": 2})
            with psycopg.connect(database_uri) as conn:
                conn.execute("select 1")  # what the saver does is a part of this transaction
                under = EventLogSaver(conn)
                config = config_of(operation, ns="sub:task", checkpoint_map={"": "a1"})
                under.put(config, checkpoint_of("s1", {"x": 1}, {"x": "1"}), {"parents": {"": "a1"}}, {"x": "1"})
                run = saver.adelete_thread(operation) if operation == "delete" else saver.aprune([operation])
                erasing = asyncio.ensure_future(run)
                await asyncio.sleep(0.3)
                assert not erasing.done()
                conn.commit()
            await erasing
            found = await listed(saver, config_of(operation, ns=None))
            left = {each.config["configurable"]["checkpoint_ns"] for each in found}
            assert left == (set() if operation == "delete" else {""})
    assert tables.rows("select kind from {schema}.events where thread_id = 'delete'") == [(3,), (3,)]
