"""A log for viewers, written by real graphs: runs that ended, wait, failed, were forked, copied, pruned and deleted."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLog
from langgraph.checkpoint.eventlog.viewing import Reader
from tests.support.server import Server

#: An id that must be encoded wherever it stands in a URL.
ODD = "odd/../id?x=1#é \"<b>'.json"

CALLS = [{"name": "get_weather", "args": {"city": "SF"}, "id": "call_1"}]
USAGE = {"input_tokens": 52, "output_tokens": 12, "total_tokens": 64}


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    seen: Annotated[list[Any], operator.add]
    topic: str


def ask(_: State) -> Any:
    message = AIMessage("Let me look.", tool_calls=CALLS, usage_metadata=USAGE, id="ask")  # type: ignore[arg-type]
    return {"messages": [message], "topic": "weather"}


def look(_: State) -> Any:
    return {"messages": [ToolMessage("sunny", tool_call_id="call_1", name="get_weather", id="look")]}


def say(state: State) -> Any:
    return {"messages": [AIMessage(f"Answer {len(state['messages'])}", id=f"say{len(state['messages'])}")]}


def confirm(_: State) -> Any:
    return {"seen": [interrupt({"question": "Is it?"})]}


def fail(_: State) -> Any:
    raise ValueError("the oven is on fire")


def line(*nodes: Callable[[State], Any]) -> StateGraph[Any, Any, Any, Any]:
    """A graph of nodes one behind the other."""
    builder = StateGraph(State)
    before = START
    for node in nodes:
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
        before = node.__name__
    return builder


def config(thread_id: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread_id, **more}, "metadata": {"user_id": thread_id[:3]}}


def human(text: str) -> Any:
    return {"messages": [("human", text)]}


def fill_world(uri: str) -> None:
    """Fill a log that is set up."""
    with EventLogSaver.from_conn_string(uri) as saver:
        chat = line(ask, look, say).compile(checkpointer=saver)
        for text in ("one", "two", "three"):
            chat.invoke(human(text), config("chat", actor="ada"))
        # Back to the end of the second turn, from which another one begins.
        earlier = [each for each in chat.get_state_history(config("chat")) if not each.next][1]
        chat.invoke(human("instead"), {**earlier.config, "metadata": {"user_id": "cha"}})

        asking = line(ask, confirm).compile(checkpointer=saver)
        asking.invoke(human("may I?"), config("waiting", actor="ada"))
        asking.invoke(human("may I?"), config("answered", actor="ada"))
        asking.invoke(Command(resume="yes"), config("answered", actor="bob"))

        failing = line(ask, fail).compile(checkpointer=saver)
        with pytest.raises(ValueError, match="oven"):
            failing.invoke(human("cake"), config("failed"))

        inner = line(look, confirm).compile()
        outer = StateGraph(State)
        outer.add_node("ask", ask)
        outer.add_node("inner", inner)
        outer.add_edge(START, "ask")
        outer.add_edge("ask", "inner")
        outer.compile(checkpointer=saver).invoke(human("nested"), config("nested"))

        for thread_id in ("pruned", "deleted", ODD):
            for text in ("one", "two", "three"):
                chat.invoke(human(text), config(thread_id))
        saver.log.prune(["pruned"], keep_last=2, actor="an operator")
        saver.log.delete_thread("deleted", actor="an operator")
        saver.log.copy_thread("chat", "copy", actor="an operator")
        saver.log.seal(actor="sealer")
        chat.invoke(human("after the seal"), config("pruned"))


@pytest.fixture
def world(server: Server, template: str, new_database: Callable[..., str]) -> str:
    """The connection string of a log of this test's own."""
    return new_database(server.filled(fill_world, template))


@asynccontextmanager
async def opened(uri: str, mode: str = "sync", **settings: Any) -> AsyncIterator[Any]:
    """A log, sync or async."""
    if mode == "sync":
        with EventLog.from_conn_string(uri, **settings) as log:
            yield log
    else:
        async with AsyncEventLog.from_conn_string(uri, **settings) as log:
            yield log


@pytest.fixture(params=["sync", "async"])
async def reader(request: pytest.FixtureRequest, world: str) -> AsyncIterator[Reader]:
    """A reader of a log, sync and async."""
    async with opened(world, request.param) as log:
        yield Reader(log)
