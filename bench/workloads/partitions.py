"""(g) A log with 36 partitions and a million events, beside one that has just been set up.

10,000 threads of 50 checkpoints and 49 events of writes, copies of five that the savers wrote, are spread over the
months of the last three years; the incumbent has them too, in one and a half million rows. Both databases are measured
in turns, with threads of the same kind:

* an active thread: all of it is in the newest partition;
* an old thread, all of it in one old partition and not cached: it is read, and continues with a `put` and a
  `put_writes`;
* the same thread, with events now in the oldest and in the newest of the partitions that it spans: it is read again, by
  a saver with an empty cache.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import psycopg
from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from psycopg.rows import tuple_row

from bench.context import Context
from bench.conversation import prose
from bench.race import BY_ID, LATEST, NOTHING_CACHED, Race, thread
from bench.replicating import Copy, check, replicate, write_template
from bench.results import Measure
from bench.savers import MeasuredSavers, open_savers, pool

__all__ = ["EMPTY_LOG", "FULL_LOG", "measure"]

FULL_LOG = "36 partitions, a million events"
EMPTY_LOG = "an empty log"

PARTITIONS = 36
#: Connections that fill the log.
WRITERS = 2
TEMPLATES = 5
#: Messages of a state, at most.
WINDOW = 6

OLD = "get_tuple, old thread"
RESUMED = "get_tuple, resumed old thread"
CALLS = ("put", "put_writes", LATEST, BY_ID, NOTHING_CACHED, OLD, "put, old thread", "put_writes, old thread", RESUMED)

ENSURE = "select eventlog.ensure_partitions_v1(%s, 0, 'month')"
COUNT = "select count(*) from eventlog.partitions where dropped_at is null"


def measure(context: Context) -> list[Measure]:
    """Fill the one database, then measure in both."""
    steps = context.pick(50, 30, 5)
    copies = context.pick(10_000, 330, 66)
    count = context.pick(120, 25, 2)
    with (
        context.database() as uri,
        context.database() as empty_uri,
        open_savers(uri, others=False) as savers,
        open_savers(empty_uri, others=False) as empty_savers,
    ):
        old = fill(context, uri, savers, steps, copies)[:count]
        empty = [Copy(each.source, f"old {number}") for number, each in enumerate(old)]
        write_templates(empty_savers, steps)
        with psycopg.connect(empty_uri, autocommit=True) as conn:
            replicate(conn, empty)
        with Race(uri, savers) as race, Race(empty_uri, empty_savers) as empty_race:
            runs = [Run(race, steps), Run(empty_race, steps)]
            for each in (race, empty_race):
                each.server.tidy()
            warm = context.pick(5, 3, 1)
            for number in context.track(range(count), 0.5, 1.0):
                which = [old[number].target, empty[number].target]
                for index in (0, 1) if number % 2 else (1, 0):
                    runs[index].step(number, which[index], counted=number >= warm)
            full = [race.timings.measure(FULL_LOG, call) for call in CALLS]
            return [*full, *(empty_race.timings.measure(EMPTY_LOG, call) for call in CALLS)]


def write_templates(savers: MeasuredSavers, steps: int) -> None:
    """The threads that all others are made of."""
    for number in range(TEMPLATES):
        write_template(savers, f"template {number}", steps, window=WINDOW)


def fill(context: Context, uri: str, savers: MeasuredSavers, steps: int, copies: int) -> list[Copy]:
    """Make partitions and threads; returns those that are at least two months old, in random order."""
    write_templates(savers, steps)
    now = datetime.now(timezone.utc)
    with pool(uri, WRITERS, row_factory=tuple_row) as conns, ThreadPoolExecutor(WRITERS) as executor:
        with conns.connection() as conn:
            (there,) = conn.execute(COUNT).fetchone() or (0,)
            # The newest that is used is the current month's; behind it some are ready for what comes.
            months = [_months_before(now, back) for back in range(PARTITIONS - there, -1, -1)]
            for month in months:
                conn.execute(ENSURE, (month,))

        def make(month: datetime) -> list[Copy]:
            batch = [
                Copy(f"template {number % TEMPLATES}", f"{month:%Y-%m}, {number}", month - now)
                for number in range(copies // len(months))
            ]
            with conns.connection() as conn:
                replicate(conn, batch)
            return batch

        making = [executor.submit(make, month) for month in months]
        made = [each for batch in context.track(making, 0.0, 0.45) for each in batch.result()]
    choice = random.Random(1)
    check(savers, choice.sample(made, 10))
    old = [each for each in made if each.ahead < -timedelta(days=60)]
    return choice.sample(old, len(old))


def _months_before(now: datetime, months: int) -> datetime:
    """The middle of an earlier month; of the current one, now."""
    if not months:
        return now
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    return datetime(year, month + 1, 15, tzinfo=timezone.utc)


class Run:
    """The calls in one of the databases."""

    def __init__(self, race: Race, steps: int) -> None:
        self._race = race
        self._choice = random.Random(3)
        self._ids = write_template(race.savers, "new", steps, window=WINDOW)
        self._new = race.get(thread("new"), counted=False)

    def step(self, number: int, old: str, *, counted: bool) -> None:
        """One of each; `old` is an old thread, another one each time."""
        race, new = self._race, thread("new")
        self._ids.append(self._go_on(self._new, number, "", counted=counted))
        self._new = race.get(new, counted=counted)
        race.get(thread("new", self._choice.choice(self._ids)), name=BY_ID, counted=counted)
        race.get(new, name=NOTHING_CACHED, fresh=True, counted=counted)

        # The pages in the server's memory must not decide: the floor has asked the incumbent for its rows.
        race.get(thread(old), fresh=True, counted=False)
        found = race.get(thread(old), name=OLD, counted=counted)
        self._go_on(found, number, ", old thread", counted=counted)
        race.get(thread(old), name=RESUMED, fresh=True, counted=counted)

    def _go_on(self, found: CheckpointTuple | None, number: int, which: str, *, counted: bool) -> str:
        """The writes of a task, and the resulting checkpoint; returns its id."""
        if found is None:
            raise SystemExit("a thread is not there")
        race, config = self._race, found.config
        written = AIMessage(prose(number, 200), id=f"more-{number}")
        messages = [*found.checkpoint["channel_values"]["messages"], written][-WINDOW:]
        version = InMemorySaver().get_next_version(str(found.checkpoint["channel_versions"]["messages"]), None)
        checkpoint = {
            **empty_checkpoint(),
            "v": 4,
            "channel_values": {"messages": messages},
            "channel_versions": {"messages": version},
        }
        writes, metadata = [("messages", [written])], {"source": "loop", "step": number, "parents": {}}
        race.put_writes(config, writes, f"more-{number}", name=f"put_writes{which}", counted=counted)
        put = race.put(config, checkpoint, metadata, {"messages": version}, name=f"put{which}", counted=counted)
        return str(put["configurable"]["checkpoint_id"])
