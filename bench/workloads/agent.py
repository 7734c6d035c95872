"""(a) One thread of a tool-calling agent that grows: five checkpoints and four events of writes a turn.

LangGraph's calls are recorded, and made again by each saver, one after the other. The figures of ``agent, n turns`` are
the bytes that the first n turns cost, and the medians of the calls since the mark before: of the last 50, 100, 150 and
300 turns in a full run.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

from bench.context import Context
from bench.conversation import agent, question
from bench.race import BY_ID, LATEST, Race, thread
from bench.recorder import Recorder, replay
from bench.results import EVENTLOG, FLOOR, POSTGRES, Measure, Series
from bench.savers import open_savers
from bench.server_figures import Server
from bench.timings import Timings

__all__ = ["GROWTH", "in_langgraph", "measure"]

#: The workload with the measures for the lines of the plots.
GROWTH = "agent, growing"

CALLS = ("put", "put_writes", LATEST, BY_ID)

#: SQLite and memory keep all states in full: beyond this many turns they would fill the disk, and the memory.
OTHERS_UNTIL = 150


def measure(context: Context) -> list[Measure]:
    """Grow a thread, and report its cost at each mark."""
    marks = context.pick((50, 150, 300, 600), (15, 30, 60), (2, 4))
    found: list[Measure] = []
    bytes_at: list[tuple[int, list[Measure]]] = []
    with context.database() as uri, open_savers(uri) as savers, Race(uri, savers) as race:
        recorder, choice, ids = Recorder(), random.Random(1), list[str]()
        graph = agent(recorder)
        counted = dict.fromkeys(CALLS, 0)
        step = max(1, marks[-1] // 30)
        for turn in context.track(range(1, marks[-1] + 1)):
            graph.invoke(question(turn), thread("agent"), durability="sync")
            calls = recorder.take()
            replay(race, calls)
            ids += [call.args[1]["id"] for call in calls if call.method == "put"]
            if turn % 3 == 0 or turn in marks:
                race.get(thread("agent", choice.choice(ids)), name=BY_ID)
            if turn % step == 0 or turn in marks:
                race.analyze()
                bytes_at.append((turn, race.bytes(GROWTH, thread("agent"))))
            if turn in marks:
                name = f"agent, {turn} turns"
                found += race.bytes(name, thread("agent"))
                for call in CALLS:
                    rounds = race.timings.count(call)
                    found.append(race.timings.measure(name, call, between=(counted[call], rounds)))
                    counted[call] = rounds
                if turn >= OTHERS_UNTIL:
                    race.drop("sqlite", "memory")
        race.get(thread("agent"), counted=False)
        return [*found, *_lines(race, bytes_at, marks[-1])]


def _lines(race: Race, bytes_at: list[tuple[int, list[Measure]]], turns: int) -> list[Measure]:
    """The lines of the plots: bytes at some turns, and the times of calls as medians of a thirtieth of the thread."""
    measures = [each.model_copy(update={"series": []}) for each in bytes_at[-1][1]]
    lines = []
    for number, last in enumerate(measures):
        series = [
            Series(saver=who, x=[turn for turn, _ in bytes_at], y=[at[number].of(who) or 0.0 for _, at in bytes_at])
            for who in (EVENTLOG, POSTGRES, FLOOR)
        ]
        lines.append(last.model_copy(update={"others": {}, "series": series}))
    for name in ("put", LATEST):
        rounds = race.timings.count(name)
        size = max(1, rounds // 30)
        pieces = [(begin, begin + size) for begin in range(0, rounds - size + 1, size)]
        medians = [race.timings.measure(GROWTH, name, between=piece) for piece in pieces]
        series = [
            Series(
                saver=who,
                x=[round(turns * end / rounds, 1) for _, end in pieces],
                y=[each.of(who) or 0.0 for each in medians],
            )
            for who in (EVENTLOG, POSTGRES, FLOOR)
        ]
        lines.append(race.timings.measure(GROWTH, name, series=series, savers=(EVENTLOG, POSTGRES, FLOOR)))
    return lines


def in_langgraph(context: Context) -> list[Measure]:
    """The same agent, run by LangGraph on each saver, turn by turn: with all that runs beside the calls."""
    turns = context.pick(150, 20, 2)
    name = f"agent in LangGraph, {turns} turns"
    with context.database() as uri, open_savers(uri, others=False) as savers:
        server = Server(uri)
        timings, cpu = Timings(server.wal), Timings()
        graphs = {each.name: agent(each.saver) for each in savers}

        def turn(graph: Any, number: int) -> float:
            began = time.process_time()
            graph.invoke(question(number), thread("agent"), durability="sync")
            return time.process_time() - began

        for number in context.track(range(turns)):
            runs = {who: partial(turn, graph, number) for who, graph in graphs.items()}
            for who, seconds in timings.time("turn", runs).items():
                cpu.seconds["turn, CPU of the client"][who].append(seconds)
        server.close()
        agree_on_shape(savers)
        return [timings.measure(name, "turn"), cpu.measure(name, "turn, CPU of the client")]


def agree_on_shape(savers: Any) -> None:
    """Check that the conversations agree. Each saver had its own run, so ids differ."""
    shapes = []
    for each in savers:
        found = each.saver.get_tuple(thread("agent"))
        shapes.append([(message.type, message.content) for message in found.checkpoint["channel_values"]["messages"]])
    if shapes[0] != shapes[1] or not shapes[0]:
        raise SystemExit("the savers disagree about the conversation")
