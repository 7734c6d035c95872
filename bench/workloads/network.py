"""(h) Connections that are not what a saver would wish for: without prepared statements; a millisecond away.

The calls are those of workload (a), on a short thread. A proxy on the same machine makes each round trip a millisecond
longer, half of it in each direction, for the savers and for the floor: see `bench/delay_proxy.py`. It shows how many
round trips a call takes.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

from bench.context import Context
from bench.conversation import agent, question
from bench.delay_proxy import delayed
from bench.race import BY_ID, LATEST, Race, thread
from bench.recorder import Recorder, replay
from bench.results import Measure
from bench.savers import open_savers

__all__ = ["measure"]

CALLS = ("put", "put_writes", LATEST, BY_ID)

#: In each direction: timers are late by a tenth, so that a round trip takes a millisecond longer.
DELAY_MS = 0.4


def measure(context: Context) -> list[Measure]:
    """Both kinds of connection, each with a thread of its own."""
    turns = context.pick(40, 14, 3)
    return [
        *_measure(context, "no prepared statements", turns, 0.0, prepare_threshold=None),
        *_measure(context, "1 ms of delay", turns, DELAY_MS),
    ]


def _measure(context: Context, name: str, turns: int, delay: float, **connection: Any) -> list[Measure]:
    begin = 0.5 if delay else 0.0
    # Until each connection has prepared what it will need, a call takes a round trip more.
    warm = context.pick(5, 3, 1)
    with (
        context.database() as uri,
        delayed(uri, delay) if delay else nullcontext(uri) as through,
        open_savers(through, others=False, **connection) as savers,
        Race(uri, savers) as race,
    ):
        recorder, choice, ids = Recorder(), random.Random(1), list[str]()
        graph = agent(recorder)
        for turn in context.track(range(turns), begin, begin + 0.5):
            graph.invoke(question(turn), thread("agent"), durability="sync")
            calls = recorder.take()
            replay(race, calls)
            ids += [call.args[1]["id"] for call in calls if call.method == "put"]
            race.get(thread("agent", choice.choice(ids)), name=BY_ID)
            if turn == warm:
                race.timings.seconds.clear()
                race.analyze()
        return [race.timings.measure(name, call) for call in CALLS]
