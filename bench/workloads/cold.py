"""(e) and memory: measurements in a separate process.

``cold process``: the latest state of an agent's long thread, by a process that has just been started. ``read`` is from
opening the saver (its connection, or its pool) to the state in hand; with imports, from the first line of the program;
and ``process`` the time of the process from outside.

``memory``: the peak of the process above what it was when the saver was open, for the latest state and for listings of
a thread with events of 100 MB (in a full run) and states of 5 MB; and for a writer of states of 5 MB that change
wholly. The floor is the state itself.
"""

from __future__ import annotations

from bench import probe
from bench.context import Context
from bench.conversation import agent, question
from bench.probe import CHANNELS, STATE, ask
from bench.race import thread
from bench.recorder import Recorder
from bench.results import EVENTLOG, FLOOR, POSTGRES, Measure, measure_of
from bench.savers import MeasuredSavers, agree, open_savers
from bench.states import put_states

__all__ = ["measure", "memory"]

BOTH = (EVENTLOG, POSTGRES)
MIB = 1024 * 1024


def measure(context: Context) -> list[Measure]:
    """The first read of a long thread."""
    turns, rounds = context.pick(300, 40, 3), context.pick(9, 3, 2)
    name = f"cold process, {turns} turns"
    seconds: dict[str, dict[str, list[float]]] = {
        what: {who: [] for who in BOTH} for what in ("read", "import", "whole")
    }
    with context.database() as uri:
        with open_savers(uri, others=False) as savers:
            _converse(context, savers, turns)
        for number in context.track(range(rounds), 0.7, 1.0):
            for who in BOTH if number % 2 else reversed(BOTH):
                answer = ask("cold", who, uri, "agent")
                if answer["messages"] != 4 * turns:
                    raise SystemExit(f"{who} found {answer['messages']} messages")
                for what, all_of_it in seconds.items():
                    all_of_it[who].append(answer[what])
    together = {who: [a + b for a, b in zip(seconds["read"][who], seconds["import"][who], strict=True)] for who in BOTH}
    return [
        measure_of(name, "read", "ms", seconds["read"], scale=1000),
        measure_of(name, "read, with imports", "ms", together, scale=1000),
        measure_of(name, "process", "ms", seconds["whole"], scale=1000),
    ]


def _converse(context: Context, savers: MeasuredSavers, turns: int) -> None:
    """LangGraph's calls, made again by both."""
    recorder = Recorder()
    graph = agent(recorder)
    for turn in context.track(range(turns), 0.0, 0.7):
        graph.invoke(question(turn), thread("agent"), durability="sync")
        for call in recorder.take():
            for each in savers:
                getattr(each.saver, call.method)(*call.args)
    agree({each.name: each.saver.get_tuple(thread("agent")) for each in savers})


def memory(context: Context) -> list[Measure]:
    """Readers and a writer, in multiples of the state."""
    count, rounds = context.pick(1_000, 100, 20), context.pick(3, 1, 1)
    found: dict[str, dict[str, list[float]]] = {}
    with context.database() as uri:
        with open_savers(uri, others=False) as savers:
            size = STATE // CHANNELS
            put_states(
                [each.saver for each in savers],
                "large",
                count=count,
                channels=CHANNELS,
                size=size,
                report=lambda number: context.report(0.6 * number / count),
            )
            agree({each.name: each.saver.get_tuple(thread("large")) for each in savers})
        asked = {
            "read": ("reader, get_tuple", BOTH),
            "list20": ("reader, list(limit=20)", BOTH),
            # The incumbent fetches all rows at once: of a thousand states, gigabytes.
            "list": ("reader, list()", BOTH[:1]),
            "write": (f"writer, {probe.WRITTEN} states", BOTH),
        }
        for number in context.track(range(rounds), 0.6, 1.0):
            for what, (name, whom) in asked.items():
                for who in whom:
                    peak = ask(what, who, uri, f"written-{who}-{number}" if what == "write" else "large")["peak"]
                    found.setdefault(name, {}).setdefault(who, []).append(peak / MIB)
    floor = {FLOOR: [STATE / MIB]}
    return [measure_of("memory", name, "MiB", {**peaks, **floor}) for name, peaks in found.items()]
