"""An interrupt that is answered twice at once: how often its tool runs, as the how-to says."""

from __future__ import annotations

import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from langgraph.checkpoint.eventlog import ConcurrentUpdateError, EventLogSaver
from tests.support.checkpoints import config_of

PATIENCE = 120


class State(TypedDict):
    answers: Annotated[list[str], operator.add]


@pytest.mark.parametrize(("concurrency", "runs"), [("branch", 2), ("strict", 1)])
def test_a_tool_behind_a_decision_runs_once_where_strict_refuses_the_second(
    concurrency: str, runs: int, database_uri: str
) -> None:
    """With ``durability="sync"``: the decision is saved before the node that acts on it begins."""
    both_asked = threading.Barrier(2)
    acted: list[str] = []

    def decide(_: State) -> Any:
        answer = interrupt("Refund the order?")
        both_asked.wait(PATIENCE)
        return {"answers": [answer]}

    def act(state: State) -> Any:
        acted.append(state["answers"][-1])
        return {"answers": ["refunded"]}

    builder = StateGraph(State)
    builder.add_node("decide", decide)
    builder.add_node("act", act)
    builder.add_edge(START, "decide")
    builder.add_edge("decide", "act")
    with EventLogSaver.from_conn_string(database_uri, concurrency=concurrency) as saver:
        graph = builder.compile(checkpointer=saver)
        graph.invoke({"answers": []}, config_of("1"))
        with ThreadPoolExecutor() as threads:
            runs_of_both = [
                threads.submit(graph.invoke, Command(resume=who), config_of("1"), durability="sync")
                for who in ("Ada", "Bob")
            ]
            errors = [each.exception() for each in runs_of_both]
    assert len(acted) == runs
    assert [type(each) for each in errors if each is not None] == [ConcurrentUpdateError] * (2 - runs)
