"""(f) `list()`: the last 20 checkpoints of a long thread, all of them, and what a filter finds among many threads.

The long thread is the agent's of workload (a). The floor is the time of decoding the states that are listed, by the
serializer alone. What is listed is looked at and dropped, one after the other. For the filters there are 10,000 threads
of three checkpoints, copies of 200; one customer has 50 of them, a plan has a fifth.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver

from bench.contenders import Contenders, agree, open_savers
from bench.context import Context
from bench.conversation import agent, prose, question
from bench.floors import Encoded, Floors, encoded
from bench.laps import Laps
from bench.race import thread
from bench.recorder import Recorder
from bench.replicating import Copy, check, replicate
from bench.results import FLOOR, POSTGRES, Measure
from bench.timing import Server

__all__ = ["filtered", "measure"]

STEPS = 3


def measure(context: Context) -> list[Measure]:
    """The agent's thread."""
    turns = context.pick(300, 60, 3)
    with context.database() as uri, open_savers(uri, others=False) as contenders:
        states = _agent(context, contenders, turns)
        floors = Floors(contenders.pool, contenders.serde)
        _tidy(uri)
        name = f"list, {len(states):,} checkpoints"
        laps = Laps()
        for number in range(context.pick(9, 5, 1) + 1):
            _lap(laps, contenders, floors, states[:20], "list(limit=20)", thread("agent"), limit=20, warm=not number)
        for _ in context.track(range(context.pick(3, 3, 1)), 0.6, 1.0):
            _lap(laps, contenders, floors, states, "list()", thread("agent"))
        agree({each.name: next(iter(each.saver.list(thread("agent"), limit=1))) for each in contenders})
        return [laps.measure(name, each) for each in laps.seconds]


def filtered(context: Context) -> list[Measure]:
    """Many threads."""
    templates, copies = context.pick((200, 50), (100, 20), (10, 3))
    with context.database() as uri, open_savers(uri, others=False) as contenders:
        for number in context.track(range(templates), 0.0, 0.3):
            _run(contenders, f"template {number}", {"customer": f"customer {number}", "plan": f"plan {number % 5}"})
        made = [
            Copy(f"template {number}", f"thread {number}, {copy}")
            for number in range(templates)
            for copy in range(1, copies)
        ]
        with psycopg.connect(uri, autocommit=True) as conn:
            replicate(conn, made)
        check(contenders, made[:: max(1, len(made) // 20)])
        _tidy(uri)
        context.report(0.4)
        floors = Floors(contenders.pool, contenders.serde)
        few, many = {"customer": "customer 3", "step": 1}, {"plan": "plan 3", "step": 1}
        states = {
            name: [encoded(contenders.serde, found) for found in contenders[POSTGRES].saver.list(None, filter=filter)]
            for name, filter in {"few": few, "many": many}.items()
        }
        laps = Laps()
        for number in context.track(range(context.pick(6, 4, 2)), 0.4, 1.0):
            for about, filter in {"few": few, "many": many}.items():
                of_them = states[about]
                hits = f"{len(of_them):,} hits"
                call = partial(_lap, laps, contenders, floors, config=None, filter=filter, warm=not number)
                call(of_them, hits)
                call(of_them[:20], f"{hits}, limit=20", limit=20)
        name = f"list(filter=…), {templates * copies:,} threads"
        return [laps.measure(name, each) for each in laps.seconds]


def _lap(
    laps: Laps,
    contenders: Contenders,
    floors: Floors,
    states: list[Encoded],
    name: str,
    config: Any,
    *,
    warm: bool = False,
    **options: Any,
) -> None:
    """List with each, and decode; all must find the same checkpoints, in the same order."""
    runs: dict[str, Callable[[], list[str]]] = {
        each.name: partial(_ids, each.saver, config, options) for each in contenders
    }
    runs[FLOOR] = lambda: [str(len(floors.decode(each))) for each in states]
    found = laps.lap(name, runs, counted=not warm)
    decoded = found.pop(FLOOR)
    first, *rest = found.values()
    if any(each != first for each in rest) or len(first) != len(decoded):
        raise SystemExit(f"the savers disagree about {name}")


def _ids(saver: Any, config: Any, options: dict[str, Any]) -> list[str]:
    return [each.checkpoint["id"] for each in saver.list(config, **options)]


def _tidy(uri: str) -> None:
    server = Server(uri)
    server.tidy()
    server.close()


def _agent(context: Context, contenders: Contenders, turns: int) -> list[Encoded]:
    """Run the agent, save what it saves; returns its states, newest first."""
    recorder = Recorder()
    graph = agent(recorder)
    states: list[Encoded] = []
    for turn in context.track(range(turns), 0.0, 0.6):
        graph.invoke(question(turn), thread("agent"), durability="sync")
        for call in recorder.take():
            if call.method == "put":
                states.append(
                    [contenders.serde.dumps_typed(value) for value in call.args[1]["channel_values"].values()]
                )
            for each in contenders:
                if call.method != "get_tuple":
                    getattr(each.saver, call.method)(*call.args)
    return states[::-1]


def _run(contenders: Contenders, thread_id: str, about: dict[str, Any]) -> None:
    """A question and its answer: three checkpoints, and the writes of the two tasks between."""
    next_version = InMemorySaver().get_next_version
    config, version = thread(thread_id), None
    messages: list[AnyMessage] = []
    for step in range(STEPS):
        written: AnyMessage = (AIMessage if step % 2 else HumanMessage)(prose((thread_id, step), 200), id=f"m{step}")
        messages = [*messages, written]
        version = next_version(version, None)
        checkpoint: Any = {
            **empty_checkpoint(),
            "v": 4,
            "channel_values": {"messages": messages},
            "channel_versions": {"messages": version},
        }
        metadata: Any = {"source": "loop" if step else "input", "step": step, "parents": {}, **about}
        for each in contenders:
            if step:
                each.saver.put_writes(config, [("messages", [written])], f"task-{step}")
            each.saver.put(config, checkpoint, metadata, {"messages": version})
        config = thread(thread_id, checkpoint["id"])
