"""(n) Costs as work grows: one turn of a thread that has n turns already, and calls in a log of n checkpoints.

*Turns.* LangGraph runs the agent of workload (a) once, up to 2,000 turns, on a saver that keeps its latest state. At
each mark the savers get that state as the first checkpoint of a new thread, and then the calls of the next turns.

*Log size.* The tables are filled with copies of threads of 50 checkpoints, up to a million checkpoints. At each mark
the calls go to a thread of their own, "nothing cached" and the listing to one of the copies, another each time.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import psycopg

from bench.context import Context
from bench.conversation import agent, question
from bench.race import BY_ID, LATEST, NOTHING_CACHED, Race, thread
from bench.recorder import Call, Recorder, replay
from bench.replicating import Copy, check, replicate, write_template
from bench.results import EVENTLOG, FLOOR, POSTGRES, Measure, Series
from bench.savers import MeasuredSavers, open_savers

__all__ = ["LOG_SIZE", "TURNS", "measure"]

TURNS = "one turn as the thread grows"
LOG_SIZE = "calls as the log grows"
LIST = "list(limit=20)"

#: Of a thread that is copied.
STEPS = 50
TEMPLATES = 5
#: Messages of its state, at most.
WINDOW = 6
#: Threads that are copied in one transaction.
AT_ONCE = 400


def measure(context: Context) -> list[Measure]:
    """Both."""
    return [*_turns(context), *_log_size(context)]


def _turns(context: Context) -> list[Measure]:
    marks = context.pick((50, 100, 200, 500, 1000, 2000), (20, 60), (2, 3))
    after = context.pick(8, 4, 1)
    recorder = Recorder()
    graph = agent(recorder)
    by_mark: dict[int, list[Measure]] = {}
    turn = 0
    with context.database() as uri, open_savers(uri, others=False) as savers, Race(uri, savers) as race:
        for number, mark in enumerate(marks, 1):
            while turn < mark:
                graph.invoke(question(turn), thread("grows"), durability="sync")
                turn += 1
            recorder.take()
            start = recorder.get_tuple(thread("grows"))
            assert start is not None
            recorder.take()
            calls: list[list[Call]] = []
            for _ in range(after):
                graph.invoke(question(turn), thread("grows"), durability="sync")
                turn += 1
                calls.append([_on(f"{mark} turns", call) for call in recorder.take()])
            versions = start.checkpoint["channel_versions"]
            race.put(thread(f"{mark} turns"), start.checkpoint, start.metadata, versions, counted=False)
            race.analyze()
            race.timings.seconds.clear()
            race.timings.wal.clear()
            for each in calls:
                replay(race, each)
            wal = {who: race.timings.wal[who] / after for who in (EVENTLOG, POSTGRES)}
            by_mark[mark] = [
                race.timings.measure(TURNS, "put"),
                race.timings.measure(TURNS, "put_writes"),
                race.timings.measure(TURNS, LATEST),
                Measure(workload=TURNS, name="WAL", unit="bytes", eventlog=wal[EVENTLOG], postgres=wal[POSTGRES]),
            ]
            context.report(0.5 * number / len(marks))
    return _lines(by_mark)


def _on(thread_id: str, call: Call) -> Call:
    """The same call on another thread."""
    config, *rest = call.args
    return Call(call.method, ({"configurable": {**config["configurable"], "thread_id": thread_id}}, *rest))


def _log_size(context: Context) -> list[Measure]:
    marks = context.pick((1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000), (300, 600))
    rounds = context.pick(40, 10, 2)
    by_mark: dict[int, list[Measure]] = {}
    made = 0
    with context.database() as uri, open_savers(uri, others=False) as savers, Race(uri, savers) as race:
        for number in range(TEMPLATES):
            write_template(savers, f"template {number}", STEPS, window=WINDOW)
        with psycopg.connect(uri, autocommit=True) as conn:
            for number, mark in enumerate(marks, 1):
                threads = max(1, mark // STEPS - TEMPLATES)
                while made < threads:
                    names = range(made, min(made + AT_ONCE, threads))
                    replicate(conn, [Copy(f"template {name % TEMPLATES}", f"copy {name}") for name in names])
                    made = names.stop
                check(savers, [Copy("template 0", "copy 0")])
                race.server.tidy()
                race.timings.seconds.clear()
                by_mark[mark] = _calls(race, savers, mark, threads, rounds)
                context.report(0.5 + 0.5 * number / len(marks))
    return _lines(by_mark)


def _calls(race: Race, savers: MeasuredSavers, mark: int, threads: int, rounds: int) -> list[Measure]:
    """One thread of its own, as long as the others and longer; and reads of others."""
    choice = random.Random(mark)
    recorder, ids = Recorder(), list[str]()
    graph = agent(recorder)
    for turn in range(rounds):
        counted = turn > 0
        graph.invoke(question(turn), thread("agent"), durability="sync")
        for call in recorder.take():
            method, args = _on(f"at {mark}", call)
            if method == "put":
                race.put(*args, counted=counted)
                ids.append(args[1]["id"])
            elif method == "put_writes":
                race.put_writes(*args, counted=counted)
            else:
                race.get(*args, counted=counted)
        race.get(thread(f"at {mark}", choice.choice(ids)), name=BY_ID, counted=counted)
        other = thread(f"copy {choice.randrange(threads)}")
        race.get(other, name=NOTHING_CACHED, fresh=True, counted=counted)
        listings = {each.name: partial(_listed, each.saver, other) for each in savers}
        listed = race.timings.time(LIST, listings, counted=counted)
        if len({str(each) for each in listed.values()}) > 1:
            raise SystemExit("the savers disagree about a listing")
    return [race.timings.measure(LOG_SIZE, call) for call in ("put", "put_writes", LATEST, BY_ID, NOTHING_CACHED, LIST)]


def _listed(saver: Any, config: Any) -> list[str]:
    return [each.checkpoint["id"] for each in saver.list(config, limit=20)]


def _lines(by_mark: dict[int, list[Measure]]) -> list[Measure]:
    """Figures at the last mark, with a line over all marks."""
    marks = sorted(by_mark)
    found: list[Measure] = []
    for number, last in enumerate(by_mark[marks[-1]]):
        of_mark: list[Any] = [by_mark[mark][number] for mark in marks]
        series = [
            Series(saver=who, x=[float(mark) for mark in marks], y=[each.of(who) or 0.0 for each in of_mark])
            for who in (EVENTLOG, POSTGRES, FLOOR)
            if last.of(who) is not None
        ]
        found.append(last.model_copy(update={"series": series}))
    return found
