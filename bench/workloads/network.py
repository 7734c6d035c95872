"""(h) Other connections: without prepared statements; a millisecond away; through PgBouncer in transaction mode.

The calls are those of workload (a), on a short thread. A proxy on the same machine makes each round trip a millisecond
longer, half of it in each direction, for the savers and for the floor: see `bench/delay_proxy.py`. It shows how many
round trips a call takes. PgBouncer is measured where the program is installed and the server listens on a socket. The
incumbent prepares nothing there, as its statements would fail; this package finds that out by itself.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.context import Context
from bench.conversation import agent, question
from bench.delay_proxy import delayed
from bench.race import BY_ID, LATEST, Race, thread
from bench.recorder import Recorder, replay
from bench.results import Measure
from bench.savers import open_savers
from tests.support.pooler import run_pooler

__all__ = ["measure"]

CALLS = ("put", "put_writes", LATEST, BY_ID)

#: Where programs are; Debian has PgBouncer where only root looks.
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])

#: In each direction: timers are late by a tenth, so that a round trip takes a millisecond longer.
DELAY_MS = 0.4


def measure(context: Context) -> list[Measure]:
    """Each kind of connection with a thread of its own."""
    turns = context.pick(40, 14, 3)
    found = [
        *_measure(context, "no prepared statements", turns, 0.0, nullcontext, prepare_threshold=None),
        *_measure(context, "1 ms of delay", turns, 0.35, lambda uri: delayed(uri, DELAY_MS)),
    ]
    program, folder = shutil.which("pgbouncer", path=PLACES), conninfo_to_dict(context.server).get("host")
    if program is not None and str(folder).startswith("/"):
        through = partial(_pooled, Path(program), Path(str(folder)))
        found += _measure(context, "PgBouncer", turns, 0.7, through, prepare_threshold=None)
    return found


@contextmanager
def _pooled(program: Path, folder: Path, uri: str) -> Iterator[str]:
    """The same database through a PgBouncer, which is started before the server."""
    with tempfile.TemporaryDirectory() as made:
        home = Path(made) / "pooler"
        home.mkdir()
        # Another user runs it, where this one is root.
        Path(made).chmod(0o755)
        with run_pooler(program, folder, home):
            yield make_conninfo(uri, host=str(home), user="postgres")


def _measure(
    context: Context,
    name: str,
    turns: int,
    begin: float,
    way: Callable[[str], AbstractContextManager[str]],
    **connection: Any,
) -> list[Measure]:
    # Until each connection has prepared what it will need, a call takes a round trip more.
    warm = context.pick(5, 3, 1)
    with (
        context.database() as uri,
        way(uri) as through,
        open_savers(through, others=False, **connection) as savers,
        Race(uri, savers) as race,
    ):
        recorder, choice, ids = Recorder(), random.Random(1), list[str]()
        graph = agent(recorder)
        for turn in context.track(range(turns), begin, begin + 0.3):
            graph.invoke(question(turn), thread("agent"), durability="sync")
            calls = recorder.take()
            replay(race, calls)
            ids += [call.args[1]["id"] for call in calls if call.method == "put"]
            race.get(thread("agent", choice.choice(ids)), name=BY_ID)
            if turn == warm:
                race.timings.seconds.clear()
                race.analyze()
        return [race.timings.measure(name, call) for call in CALLS]
