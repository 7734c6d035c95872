"""(f) `list()`: the last 20 checkpoints of a long thread, all of them, and the matches of a filter among many threads.

The long thread is the agent's of workload (a). The floor is the time to decode the listed states with the serializer
alone. Listed checkpoints are read and dropped one after the other. When all are listed, the savers take turns after
each hundred checkpoints. For the filters there are 10,000 threads of three checkpoints, copies of 200; one customer has
50 of them, one plan 500.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import psycopg
from langgraph.checkpoint.base import CheckpointTuple

from bench.context import Context
from bench.conversation import agent, question
from bench.floors import Encoded, Floors, encoded
from bench.race import thread
from bench.recorder import Recorder
from bench.replicating import Copy, check, replicate, write_template
from bench.results import FLOOR, POSTGRES, Measure
from bench.savers import MeasuredSavers, agree, open_savers
from bench.server_figures import Server
from bench.timings import Timings

__all__ = ["filtered", "measure"]

STEPS = 3
#: The number of checkpoints that a saver lists before the next saver's turn.
PIECE = 100


def measure(context: Context) -> list[Measure]:
    """The agent's thread."""
    turns = context.pick(300, 40, 3)
    with context.database() as uri, open_savers(uri, others=False) as savers:
        states = _agent(context, savers, turns)
        floors = Floors(savers.pool, savers.serde)
        _tidy(uri)
        name = f"list, {len(states):,} checkpoints"
        timings = Timings()
        for number in range(context.pick(5, 5, 1) + 1):
            _time(timings, savers, floors, states[:20], "list(limit=20)", thread("agent"), limit=20, warm=not number)
        for _ in range(context.pick(1, 3, 1)):
            _in_pieces(context, timings, savers, floors, states)
        agree({each.name: next(iter(each.saver.list(thread("agent"), limit=1))) for each in savers})
        return [timings.measure(name, each) for each in timings.seconds]


def filtered(context: Context) -> list[Measure]:
    """Many threads."""
    templates, copies = context.pick((200, 50), (100, 20), (10, 3))
    with context.database() as uri, open_savers(uri, others=False) as savers:
        for number in context.track(range(templates), 0.0, 0.3):
            metadata = {"customer": f"customer {number}", "plan": f"plan {number % (templates // 10)}"}
            write_template(savers, f"template {number}", STEPS, metadata)
        made = [
            Copy(f"template {number}", f"thread {number}, {copy}")
            for number in range(templates)
            for copy in range(1, copies)
        ]
        with psycopg.connect(uri, autocommit=True) as conn:
            replicate(conn, made)
        check(savers, made[:: max(1, len(made) // 20)])
        _tidy(uri)
        context.report(0.4)
        floors = Floors(savers.pool, savers.serde)
        few, many = {"customer": "customer 3", "step": 1}, {"plan": "plan 0", "step": 1}
        states = {
            name: [encoded(savers.serde, found) for found in savers[POSTGRES].saver.list(None, filter=filter)]
            for name, filter in {"few": few, "many": many}.items()
        }
        timings = Timings()
        for number in context.track(range(context.pick(5, 4, 2)), 0.4, 1.0):
            for about, filter in {"few": few, "many": many}.items():
                of_them = states[about]
                hits = f"{len(of_them):,} hits"
                call = partial(_time, timings, savers, floors, config=None, filter=filter, warm=not number)
                call(of_them, hits)
                call(of_them[:20], f"{hits}, limit=20", limit=20)
        name = f"list(filter=…), {templates * copies:,} threads"
        return [timings.measure(name, each) for each in timings.seconds]


def _time(
    timings: Timings,
    savers: MeasuredSavers,
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
        each.name: partial(_ids, each.saver, config, options) for each in savers
    }
    runs[FLOOR] = partial(_decode, floors, states)
    _same(timings.time(name, runs, counted=not warm), name)


def _in_pieces(
    context: Context, timings: Timings, savers: MeasuredSavers, floors: Floors, states: list[Encoded]
) -> None:
    """List all, as `_time`, in pieces: a whole listing takes so long that the machine's load changes."""
    pieces = Timings()
    listings = {each.name: each.saver.list(thread("agent")) for each in savers}
    starts = range(0, len(states) + 1, PIECE)
    for start in context.track(starts, 0.65, 1.0):
        runs: dict[str, Callable[[], list[str]]] = {
            who: partial(_take, listing, PIECE) for who, listing in listings.items()
        }
        runs[FLOOR] = partial(_decode, floors, states[start : start + PIECE])
        _same(pieces.time("list()", runs), "list()")
    for who, seconds in pieces.seconds["list()"].items():
        timings.seconds["list()"][who].append(sum(seconds))


def _same(found: dict[str, list[str]], name: str) -> None:
    decoded = found.pop(FLOOR)
    first, *rest = found.values()
    if any(each != first for each in rest) or len(first) != len(decoded):
        raise SystemExit(f"the savers disagree about {name}")


def _decode(floors: Floors, states: list[Encoded]) -> list[str]:
    return [str(len(floors.decode(each))) for each in states]


def _take(listing: Iterator[CheckpointTuple], count: int) -> list[str]:
    return [each.checkpoint["id"] for each in islice(listing, count)]


def _ids(saver: Any, config: Any, options: dict[str, Any]) -> list[str]:
    return [each.checkpoint["id"] for each in saver.list(config, **options)]


def _tidy(uri: str) -> None:
    server = Server(uri)
    server.tidy()
    server.close()


def _agent(context: Context, savers: MeasuredSavers, turns: int) -> list[Encoded]:
    """Run the agent, save what it saves; returns its states, newest first."""
    recorder = Recorder()
    graph = agent(recorder)
    states: list[Encoded] = []
    for turn in context.track(range(turns), 0.0, 0.6):
        graph.invoke(question(turn), thread("agent"), durability="sync")
        for call in recorder.take():
            if call.method == "put":
                states.append([savers.serde.dumps_typed(value) for value in call.args[1]["channel_values"].values()])
            for each in savers:
                if call.method != "get_tuple":
                    getattr(each.saver, call.method)(*call.args)
    return states[::-1]
