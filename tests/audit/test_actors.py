"""The actor of a graph's run: recorded with checkpoints and writes, covered by the digest, shown in the history."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from eventlog.errors import InvalidInputError, LogCorruptedError
from eventlog.format.codec import Codec
from eventlog.format.contents import WritesSaved
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.cli.command import clean_environment, documents, eventlog
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put

__all__ = ["clean_environment"]  # a fixture

POOLS = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])


class State(TypedDict):
    answer: str


def ask(_: State) -> dict[str, Any]:
    return {"answer": interrupt("may I?")}


async def test_the_answer_to_an_interrupt_has_a_name(kind: str, saver: Any, database_uri: str) -> None:
    """Of a graph: what the first run saved is the scheduler's, the answer and what comes of it Ann's."""
    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    graph = builder.compile(checkpointer=saver)

    def config(**more: str) -> Any:
        return {"configurable": {"thread_id": "1", **more}}

    await graph.ainvoke({"answer": ""}, config(actor="scheduler"))
    await graph.ainvoke(Command(resume="yes"), config(actor="Ann"))
    entries = [entry async for entry in saver.log.history("1")]
    by = [entry.actor for entry in entries]
    assert None not in by
    assert by == ["scheduler"] * by.count("scheduler") + ["Ann"] * by.count("Ann")
    (answer,) = (
        entry
        for entry in entries
        if entry.kind == "writes"
        and {c.channel for c in entry.channels} == {"__resume__"}
        and entry.task_id == "00000000-0000-0000-0000-000000000000"
    )
    assert answer.actor == "Ann"
    events = [await saver.log.decode(event) async for event in saver.log.tail()]
    assert {event.actor for event in events} == {"scheduler", "Ann"}
    assert (await saver.log.verify(states=True)).problems == []
    assert "writes of" in (shown := eventlog(database_uri, "history", "1").stdout)
    assert ", by Ann" in shown


@POOLS
async def test_an_actor_survives_relocation_and_is_covered_by_the_digest(kind: str, database_uri: str) -> None:
    """Writes that are written again keep it; another name in a body of the same digest is found."""
    async with open_saver(kind, database_uri) as saver:
        config = config_of("1")
        for number in range(4):
            config["configurable"]["actor"] = f"actor {number}"
            config = await put(saver, config, f"{number}", {"x": ["a long value " * 100] * number})
            config["configurable"]["actor"] = f"writer {number}"
            await saver.aput_writes(config, [("x", ["a long value " * 100] * number + ["more"])], "task")
        # The state that the last writes are a difference from is put again, so that it goes.
        config["configurable"]["actor"] = "actor 3"
        await put(saver, config, "3", {"x": ["another value"]})
        await saver.log.prune(["1"], actor="operator")
        entries = [entry async for entry in saver.log.history("1")]
        assert [entry.actor for entry in entries] == ["writer 3", "actor 3", "operator"]
        assert entries[0].relocated_at is not None
        assert (await saver.log.verify(states=True)).problems == []
        await put(saver, config_of("2"), "1")
        await saver.aput_writes(config_of("2", "1"), [("x", 1)], "task")
        codec = Codec(1 << 20, 3)
        with psycopg.connect(database_uri) as conn:
            conn.execute("set session_replication_role = replica")
            ((body,),) = conn.execute("select body from eventlog.events where thread_id = '2' and seq = 2").fetchall()
            event = codec.decode_writes(body, "")
            assert event.actor is None
            event.actor = "Eve"
            conn.execute(
                "update eventlog.events set body = %s where thread_id = '2' and seq = 2", (codec.encode_writes(event),)
            )
        found = (await saver.log.verify(["2"], states=True)).problems
        assert any("state digest" in each.what or "digest" in each.what for each in found), found


def test_without_an_actor_bodies_keep_their_bytes() -> None:
    """The body has a fifth part with an actor alone; another part is refused."""
    codec = Codec(1 << 20, 3)
    plain = codec.encode_writes(WritesSaved("task", "", []))
    named = codec.encode_writes(WritesSaved("task", "", [], actor="Ann"))
    assert plain[1] == 0x94
    assert named[1:] == b"\x95" + plain[2:] + b"\xa3Ann"
    assert codec.decode_writes(named, "").actor == "Ann"
    for last in (b"\xc0", b"\xa0", b"\x01", b"\xa1\x00"):
        with pytest.raises(LogCorruptedError):
            codec.decode_writes(named[:1] + b"\x95" + plain[2:] + last, "")
    with pytest.raises(LogCorruptedError):
        codec.decode_writes(named[:1] + b"\x96" + named[2:] + b"\xa3Ann", "")


def test_the_config_goes_before_its_metadata_and_a_bad_actor_is_refused(database_uri: str) -> None:
    """A text of the config; empty is none."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        for actor in (1, b"Ann", "a\0b", "a" * 10_000, {"name": "Ann"}):
            config: Any = {
                "configurable": {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": "1", "actor": actor}
            }
            with pytest.raises(InvalidInputError, match="actor"):
                saver.put_writes(config, [("x", 1)], "task")
            with pytest.raises(InvalidInputError, match="actor"):
                saver.put(config, {"id": "2"}, {}, {})  # type: ignore[typeddict-item]
        config["configurable"]["actor"] = ""
        saver.put_writes(config, [("x", 1)], "task")
        assert [entry.actor for entry in saver.log.history("1")] == [None]


@POOLS
async def test_entries_name_the_user_and_the_role(kind: str, database_uri: str) -> None:
    """`user_id` of the metadata, as text, whatever stands there; the database user of what was done to a thread."""
    async with open_saver(kind, database_uri) as saver:
        ids = {"a": "ada", "b": 7, "c": UUID(int=1), "d": 2**200, "e": True, "f": ["ada"]}
        config = config_of("1")
        for id_, user_id in ids.items():
            config = await put(saver, config, id_, {"x": id_}, metadata={"user_id": user_id, "source": "loop"})
        await saver.aput_writes(config, [("x", 1)], "task")
        await saver.log.prune(["1"], keep_last=5, actor="operator")
        entries = [entry async for entry in saver.log.history("1", checkpoint_ns="")]
        assert [entry.user_id for entry in entries] == ["7", str(UUID(int=1)), None, None, None, None, None]
        assert [entry.role for entry in entries[:-1]] == [None] * 6
        assert (entries[-1].role, entries[-1].actor) == (entries[-1].operation["by"], "operator")
        assert entries[-1].role
        await put(saver, config_of("2"), "a", metadata={"user_id": "ada\x1b[31m"})
    shown = eventlog(database_uri, "history", "2").stdout
    assert ", user ada\\x1b[31m" in shown
    assert documents(eventlog(database_uri, "history", "1", "--json"))[0]["user_id"] == "7"


async def test_a_graphs_user_id_is_in_the_history(kind: str, saver: Any) -> None:
    """Of the config of a run, where LangGraph's server and applications have it."""
    builder = StateGraph(State)
    builder.add_node("say", lambda _: {"answer": "yes"})
    builder.add_edge(START, "say")
    graph = builder.compile(checkpointer=saver)
    await graph.ainvoke({"answer": ""}, {"configurable": {"thread_id": "1", "user_id": "ada"}})
    entries = [entry async for entry in saver.log.history("1", kinds=["checkpoint"])]
    assert {entry.user_id for entry in entries} == {"ada"}
