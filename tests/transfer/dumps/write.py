"""Writes threads with a version of langgraph-checkpoint-postgres; run by `make.py` in an environment of that version.

    python write.py DSN        what PostgresSaver stores
    python write.py DSN shallow

It uses what all versions have, and what later ones have where it is there.
"""

from __future__ import annotations

import operator
import os
import sys
from contextlib import suppress
from datetime import datetime, timezone
from typing import Annotated, Any, TypedDict, get_type_hints
from uuid import UUID

import psycopg
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from psycopg.rows import dict_row

try:
    from langgraph.types import Send
except ImportError:
    from langgraph.constants import Send

try:
    from langgraph.types import Command, interrupt
except ImportError:
    Command = interrupt = None

try:
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
except ImportError:
    EncryptedSerializer = None

try:
    from langgraph.channels import DeltaChannel
except ImportError:
    DeltaChannel = None

try:
    # It strips what JSONB cannot hold.
    from langgraph.checkpoint.base import get_serializable_checkpoint_metadata  # noqa: F401

    NUL = "\0"
except ImportError:
    NUL = ""

#: Of nothing but these dumps.
KEY = "0123456789abcdef"  # as in __init__.py


class State(MessagesState):
    count: Annotated[int, operator.add]
    name: str
    ratio: float
    flag: bool
    nothing: Any
    data: Any


def config(thread_id: str, **more: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id, **more}, "metadata": {"owner": f"a{NUL}b"}}


def chat() -> StateGraph:
    def reply(state: State) -> dict[str, Any]:
        turn = len(state["messages"])
        values = {"when": datetime(2024, 10, 1, tzinfo=timezone.utc), "ids": {UUID(int=turn)}, "raw": b"\0\xff"}
        return {
            "messages": [("ai", f"answer {turn} " + "long " * 40)],
            "count": 1,
            "name": f"name {turn} é",
            "ratio": turn / 3,
            "flag": turn % 4 == 1,
            "nothing": None,
            "data": [values],
        }

    builder = StateGraph(State)
    builder.add_node("reply", reply)
    builder.add_edge(START, "reply")
    return builder


def waiting() -> StateGraph:
    def ask(state: State) -> dict[str, Any]:
        if interrupt is not None:
            return {"name": interrupt({"question": "go on?"})}
        from langgraph.errors import NodeInterrupt

        raise NodeInterrupt("go on?")

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    return builder


def nesting() -> StateGraph:
    builder = StateGraph(State)
    builder.add_node("child", waiting().compile())
    builder.add_edge(START, "child")
    return builder


def sending() -> StateGraph:
    builder = StateGraph(State)
    builder.add_node("plan", lambda state: {"count": 1})
    builder.add_node("work", lambda state: {"count": state["count"], "messages": [("ai", f"work {state['count']}")]})
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", lambda state: [Send("work", {"count": n}) for n in (10, 20, 30)], ["work"])
    return builder


def failing() -> StateGraph:
    def fail(state: State) -> dict[str, Any]:
        raise ValueError("it failed")

    builder = StateGraph(State)
    builder.add_node("fine", lambda state: {"count": 5})
    builder.add_node("fail", fail)
    builder.add_edge(START, "fine")
    builder.add_edge(START, "fail")
    return builder


def write_graphs(saver: Any) -> None:
    graph = chat().compile(checkpointer=saver)
    for turn in range(3):
        graph.invoke({"messages": [("user", f"question {turn}")]}, config("chat"))
    for thread_id, builder in (("waiting", waiting()), ("nested", nesting())):
        graph = builder.compile(checkpointer=saver)
        graph.invoke({"messages": [("user", "hello")]}, config(thread_id))
    if Command is not None:
        graph = nesting().compile(checkpointer=saver)
        graph.invoke({"messages": [("user", "hello")]}, config("resumed"))
        graph.invoke(Command(resume="yes"), config("resumed"))
    graph = sending().compile(checkpointer=saver)
    graph.invoke({"messages": [("user", "all of it")]}, config("sent"))
    graph = sending().compile(checkpointer=saver, interrupt_before=["work"])
    graph.invoke({"messages": [("user", "half of it")]}, config("sending"))
    with suppress(ValueError):
        failing().compile(checkpointer=saver).invoke({"messages": [("user", "try")]}, config("failed"))


def write_forks(saver: Any) -> None:
    graph = chat().compile(checkpointer=saver)
    for turn in range(2):
        graph.invoke({"messages": [("user", f"question {turn}")]}, config("forked"))
    history = list(graph.get_state_history(config("forked")))
    graph.update_state(history[3].config, {"messages": [("user", "another")], "name": "changed"}, as_node="reply")
    graph.invoke({"messages": [("user", "on the fork")]}, config("forked"))
    graph.invoke({"messages": [("user", "from the middle")]}, history[2].config)


def write_delta(saver: Any) -> None:
    def append(state: list[Any], writes: list[Any]) -> list[Any]:
        return state + [each for write in writes for each in (write if isinstance(write, list) else [write])]

    for name, every in (("delta", 1000), ("delta with snapshots", 3)):
        channel = DeltaChannel(append, snapshot_frequency=every)
        builder = StateGraph(
            TypedDict("Delta", {**get_type_hints(State, include_extras=True), "log": Annotated[list, channel]})
        )
        builder.add_node("note", lambda state: {"log": [f"note {len(state['log'])}"], "count": 1})
        builder.add_edge(START, "note")
        graph = builder.compile(checkpointer=saver)
        for turn in range(5):
            graph.invoke({"messages": [("user", f"question {turn}")], "log": [f"turn {turn}"]}, config(name))
        history = list(graph.get_state_history(config(name)))
        graph.invoke({"messages": [("user", "back")], "log": ["back"]}, history[6].config)


def write_raw(saver: Any, conn: Any) -> None:
    """What no graph of today writes, but some graph, application or interrupted run did."""
    for thread_id, versions in (("integers", (1, 2)), ("floats", (1.5, 2.5)), ("texts", ("1", "2"))):
        parent = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        for number, version in enumerate(versions):
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"things": ["x", float("nan")] * (number + 1), "text": "plain"}
            checkpoint["channel_versions"] = {"things": version, "text": version, "empty": version}
            checkpoint["versions_seen"] = {"node": {"things": version}}
            parent = saver.put(
                parent, checkpoint, {"source": "loop", "step": number, "writes": {}}, checkpoint["channel_versions"]
            )
            saver.put_writes(parent, [("things", ["w"]), ("text", None)], "task")
    # Of a run that was cut off, and of a checkpoint that was erased by hand.
    missing = {"thread_id": "texts", "checkpoint_ns": "", "checkpoint_id": "1fffffff-ffff-6fff-bfff-ffffffffffff"}
    saver.put_writes({"configurable": missing}, [("things", ["orphan"])], "task")
    conn.execute("insert into checkpoint_blobs values ('texts', '', 'things', 'never', 'msgpack', '\\x90')")


def main(dsn: str, kind: str) -> None:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0, row_factory=dict_row) as conn:
        if kind == "shallow":
            from langgraph.checkpoint.postgres.shallow import ShallowPostgresSaver

            saver = ShallowPostgresSaver(conn)
            saver.setup()
            write_graphs(saver)
            return
        saver = PostgresSaver(conn)
        saver.setup()
        write_graphs(saver)
        write_forks(saver)
        write_raw(saver, conn)
        if DeltaChannel is not None:
            write_delta(saver)
        if EncryptedSerializer is not None:
            os.environ["LANGGRAPH_AES_KEY"] = KEY
            secret = PostgresSaver(conn, serde=EncryptedSerializer.from_pycryptodome_aes())
            graph = chat().compile(checkpointer=secret)
            for turn in range(2):
                graph.invoke({"messages": [("user", f"secret {turn}")]}, config("encrypted"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
