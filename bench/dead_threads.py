"""Parts of `lifecycle.py`: many dead threads, their retention and expiry, and databases for that."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from multiprocessing.connection import Connection
from statistics import median
from typing import Any
from uuid import uuid4

import psycopg
from langgraph.checkpoint.base import empty_checkpoint
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from rich.console import Console
from rich.progress import track

from bench.conversation import agent, prose, question
from bench.server_figures import Server
from eventlog.db.migrations import migrate
from eventlog.db.statements import Statements
from eventlog.db.sync import Driver
from langgraph.checkpoint.eventlog import EventLogSaver

console = Console()

EVENTS_PER_TURN = 9
#: Turns of each of the many conversations: about 50 events.
SHORT_TURNS = 5

#: The dead threads were active this many days ago, and events younger than the history are kept.
DAYS_AGO = 60
HISTORY = timedelta(days=10)

#: A session with this setting has a clock in the past. Only the preparation of a measurement uses it.
CLOCK = """
create or replace function eventlog.clock_v1() returns timestamptz language sql volatile as
'select pg_catalog.clock_timestamp() - coalesce(current_setting(''clock.behind'', true), ''0'')::interval';
"""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    turns: int = 400
    repeat: int = 3
    events: int = 100_000
    expired: int = 2_000
    partitions: int = 20
    baseline_seconds: float = 5.0


QUICK = Sizes(turns=10, repeat=2, events=1_500, expired=20, partitions=2, baseline_seconds=0.5)


def progress(count: int, what: str) -> Iterable[int]:
    """Numbers from 0, with a progress bar on a terminal."""
    return track(range(count), what, console=console, transient=True, disable=not console.is_terminal)


def thread(thread_id: str) -> Any:
    """The config of a thread."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def converse(savers: dict[str, Any], thread_id: str, turns: int) -> None:
    """Turns of the conversation, each a run of its own."""
    graphs = [agent(saver) for saver in savers.values()]
    for number in progress(turns, "a thread"):
        for graph in graphs:
            config: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"run_id": f"run-{number}"}}
            graph.invoke(question(number), config, durability="sync")


# --- many dead threads


def dead_threads(uri: str, count: int, days_ago: int = DAYS_AGO) -> None:
    """Threads with a short conversation each, of one day long ago, in a partition of its own."""
    with open_saver(uri, days_ago) as saver:
        name = f"dead-{days_ago}-"
        converse({"": saver}, f"{name}{0:05}", SHORT_TURNS)
        for number in progress(count, "copies"):
            if number:
                saver.copy_thread(f"{name}{0:05}", f"{name}{number:05}")


@dataclass
class Retention:
    """The result of retention of one partition: its time, the freed disk space, and the delay of appends."""

    events: int
    threads: int
    seconds: float
    drop_seconds: float
    """Of these seconds, those after the last thread was relocated."""
    bytes_before: int
    bytes_after: int
    bytes_vacuumed: int
    beside_seconds: float
    """The same once more, beside a process that puts."""
    puts: int
    before_ms: list[float]
    """Puts before retention: median, 99th percentile, longest."""
    during_ms: list[float]
    drop_ms: float
    """The longest put while the partition was dropped."""


@dataclass
class Run:
    """One run of retention: the times of its start, of the last thread's relocation, and of its end."""

    started: float
    dropping: float
    ended: float
    threads: int


def retention(uri: str, template: str, sizes: Sizes, *, drop_idle: bool) -> Retention:
    """Retention of one partition of dead threads: alone, then (on another copy of the database) beside a writer."""
    with database(uri, template) as made, open_saver(made) as saver:
        server = Server(made)
        (events,) = [each.rows for each in saver.log.partitions(exact=True).partitions if each.rows]
        before = server.tables("eventlog.%")
        alone = retain(saver, drop_idle=drop_idle)
        after = server.tables("eventlog.%")
        server.tidy()
        vacuumed = server.tables("eventlog.%")
        server.close()
    with database(uri, template) as made, open_saver(made) as saver, writer(made) as stop:
        time.sleep(sizes.baseline_seconds)
        beside = retain(saver, drop_idle=drop_idle)
        puts = stop()

    def within(start: float, end: float) -> list[float]:
        return [took for at, took in puts if at < end and at + took > start]

    during = within(beside.started, beside.ended)
    return Retention(
        events=events,
        threads=alone.threads,
        seconds=alone.ended - alone.started,
        drop_seconds=alone.ended - alone.dropping,
        bytes_before=before,
        bytes_after=after,
        bytes_vacuumed=vacuumed,
        beside_seconds=beside.ended - beside.started,
        puts=len(during),
        before_ms=spread([took for at, took in puts if at + took <= beside.started]),
        during_ms=spread(during),
        drop_ms=1000 * max(within(beside.dropping, beside.ended)),
    )


def retain(saver: EventLogSaver, *, drop_idle: bool) -> Run:
    """Run it, and look at some of the threads before and after."""
    samples = [f"dead-{DAYS_AGO}-{number:05}" for number in (0, 10)]
    states = [saver.get_tuple(thread(id_)) for id_ in samples]
    cuts: list[float] = []
    started = time.perf_counter()
    retained = saver.log.retain(HISTORY, drop_idle=drop_idle, on_thread=lambda _: cuts.append(time.perf_counter()))
    ended = time.perf_counter()
    assert len(retained.partitions) == 1
    assert (retained.dropped_threads if drop_idle else retained.relocated_threads) == len(cuts)
    for id_, state in zip(samples, states, strict=True):
        assert state is not None
        assert saver.get_tuple(thread(id_)) == (None if drop_idle else state._replace(parent_config=None))
        assert len(list(saver.list(thread(id_)))) == (0 if drop_idle else 1)
    return Run(started, cuts[-1], ended, len(cuts))


def spread(seconds: list[float]) -> list[float]:
    """Median, 99th percentile and longest, in milliseconds."""
    ordered = sorted(seconds)
    return [1000 * each for each in (median(ordered), ordered[len(ordered) * 99 // 100], ordered[-1])]


@contextlib.contextmanager
def writer(uri: str) -> Iterator[Callable[[], list[tuple[float, float]]]]:
    """A separate process that puts small checkpoints, one after the other; yields a function that stops it.

    A thread would wait for Python's lock. The function returns the start and the seconds of each put.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=keep_putting, args=(uri, there), daemon=True)
    process.start()

    def stop() -> list[tuple[float, float]]:
        here.send("stop")
        puts: list[tuple[float, float]] = here.recv()
        return puts

    try:
        here.recv()  # it has begun
        yield stop
    finally:
        here.close()
        process.join(10)
        process.kill()


def keep_putting(uri: str, pipe: Connection) -> None:
    """The writer's loop."""
    puts: list[tuple[float, float]] = []
    with open_saver(uri) as saver:
        config, version, number = thread("writer"), None, 0
        while not pipe.poll():
            version = saver.get_next_version(version, None)
            checkpoint: Any = {
                **empty_checkpoint(),
                "channel_values": {"answer": prose(("writer", number), 200)},
                "channel_versions": {"answer": version},
            }
            started = time.perf_counter()
            config = saver.put(config, checkpoint, {"source": "loop", "step": number}, {"answer": version})
            puts.append((started, time.perf_counter() - started))
            number += 1
            if number == 20:
                puts.clear()
                pipe.send("begun")
    pipe.send(puts)


def nothing_to_carry(uri: str, sizes: Sizes) -> float:
    """Milliseconds for each partition with only deleted threads."""
    for number in range(sizes.partitions):
        dead_threads(uri, 20, DAYS_AGO - number)
        with open_saver(uri, DAYS_AGO - number) as saver:
            saver.prune([each.thread_id for each in saver.log.threads()], strategy="delete")
    Server(uri).tidy()
    with open_saver(uri) as saver:
        started = time.perf_counter()
        retained = saver.log.retain(HISTORY)
        seconds = time.perf_counter() - started
        assert len(retained.partitions) == sizes.partitions
        assert retained.relocated_threads == 0
    return 1000 * seconds / sizes.partitions


def expiry(uri: str, sizes: Sizes) -> float:
    """Threads that expire in a second."""
    with open_saver(uri) as saver:
        started = time.perf_counter()
        expired = saver.log.expire(HISTORY, limit=sizes.expired)
        seconds = time.perf_counter() - started
        assert len(expired) == sizes.expired
        assert saver.get_tuple(thread(expired[0].thread_id)) is None
    return sizes.expired / seconds


# --- connections and databases


@contextlib.contextmanager
def pool(uri: str, row_factory: Any = None, options: str = "") -> Iterator[ConnectionPool[Any]]:
    """A pool with the settings that the incumbent's guide gives."""
    kwargs = {"autocommit": True, "prepare_threshold": 0, "options": options}
    if row_factory is not None:
        kwargs["row_factory"] = row_factory
    with ConnectionPool(uri, min_size=2, max_size=4, kwargs=kwargs, open=True) as opened:
        opened.wait()
        yield opened


@contextlib.contextmanager
def open_saver(uri: str, days_ago: int | None = None) -> Iterator[EventLogSaver]:
    """A saver with daily partitions, set up; in the past, from the beginning of that day on."""
    options = ""
    if days_ago is not None:
        now = datetime.now(timezone.utc)
        begin = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)
        behind = int((now - begin).total_seconds())
        options = f"-c clock.behind={behind}s"
    with pool(uri, options=options) as opened:
        saver = EventLogSaver(opened)
        saver.setup(partition_interval="day", partitions_ahead=0 if days_ago else 1)
        yield saver


@contextlib.contextmanager
def database(uri: str, template: str | None = None) -> Iterator[str]:
    """The connection string of a new database, or of a copy, dropped afterwards."""
    name = f"lifecycle_{uuid4().hex[:12]}"
    source = "template1" if template is None else psycopg.conninfo.conninfo_to_dict(template)["dbname"]
    identifiers = [sql.Identifier(name), sql.Identifier(str(source))]
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(*identifiers))
        try:
            made = make_conninfo(uri, dbname=name)
            if template is None:
                with psycopg.connect(made, autocommit=True) as there:
                    Driver(there).run_script(migrate(Statements("eventlog")))
                    there.execute(CLOCK)
            yield made
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(identifiers[0]))
