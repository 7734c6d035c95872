"""What ends or duplicates data: erasing, copying, expiry and retention, measured.

Where `langgraph-checkpoint-postgres` has the operation too, both do it in turns, on threads with the same
conversation, and the ratio is printed. Retention and expiry have nobody to be compared with; there the question is
what an append of another thread, made by another process, notices of them.

    python bench/lifecycle.py [--quick] [--json FILE] [--uri postgresql://…]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import psycopg
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))  # run as a script, the benches import each other by name

from timing import Server
from workload import agent, prose, question

from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver

console = Console()

CHECKPOINTS_PER_TURN = 5
EVENTS_PER_TURN = 9
#: Of the conversations of which there are many: about 50 events.
SHORT_TURNS = 5

#: The dead threads were active on this day, and what is younger than the history is kept.
DAYS_AGO = 60
HISTORY = timedelta(days=10)

#: As `psycopg.connect` has it: the log's functions call `clock_timestamp()` without a schema, and a session that has
#: another one first in its path lives in the past. Only what prepares a measurement does.
CLOCK = """
create schema clock;
create function clock.clock_timestamp() returns timestamptz language sql volatile as
'select pg_catalog.clock_timestamp() - current_setting(''clock.behind'')::interval';
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


# --- one long thread, side by side


@dataclass
class Contender:
    """One saver, its long thread "source", and what each operation cost on copies of it."""

    name: str
    saver: Any
    uri: str
    schema: str
    copy: Callable[[str], None]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    wal: dict[str, list[int]] = field(default_factory=dict)

    def measure(self, server: Server, name: str, operation: Callable[[], Any]) -> None:
        """Run, and count seconds and bytes of WAL."""
        wal, started = server.wal(), time.perf_counter()
        operation()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        self.wal.setdefault(name, []).append(server.wal() - wal)

    def latest(self, thread_id: str) -> Any:
        """All that can be told of a thread's latest checkpoint, but for its thread and its parent."""
        found = self.saver.get_tuple(thread(thread_id))
        return found and (found.checkpoint, found.metadata, found.pending_writes)

    def count(self, thread_id: str) -> int:
        """How many checkpoints a thread has."""
        with psycopg.connect(self.uri) as conn:
            statement = sql.SQL("select count(*) from {} where thread_id = %s")
            row = conn.execute(statement.format(sql.Identifier(self.schema, "checkpoints")), (thread_id,)).fetchone()
        assert row is not None
        return int(row[0])


def progress(count: int, what: str) -> Iterable[int]:
    """Numbers from 0, with a bar where somebody may look at it."""
    return track(range(count), what, console=console, transient=True, disable=not console.is_terminal)


def thread(thread_id: str) -> Any:
    """The config of a thread."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def copy_rows(uri: str) -> Callable[[str], None]:
    """Copies the incumbent's source thread, which has no function for it."""

    def copy(target: str) -> None:
        with psycopg.connect(uri) as conn:
            for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
                names = "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
                columns = [name for (name,) in conn.execute(names, (table,)) if name != "thread_id"]
                statement = "insert into {0} (thread_id, {1}) select %s, {1} from {0} where thread_id = 'source'"
                identifiers = sql.SQL(", ").join(map(sql.Identifier, columns))
                conn.execute(sql.SQL(statement).format(sql.Identifier(table), identifiers), (target,))

    return copy


def long_thread(uri: str, sizes: Sizes) -> list[Contender]:
    """Build the thread with both savers, then erase and copy."""
    server = Server(uri)
    with pool(uri, dict_row) as theirs_pool, open_saver(uri) as saver:
        theirs_saver = PostgresSaver(theirs_pool)
        ours = Contender("eventlog", saver, uri, "eventlog", partial(saver.copy_thread, "source"))
        theirs = Contender("postgres", theirs_saver, uri, "public", copy_rows(uri))
        both = (ours, theirs)
        theirs_saver.setup()
        converse({each.name: each.saver for each in both}, "source", sizes.turns)
        before = {each.name: each.latest("source") for each in both}
        for each in both:
            assert each.count("source") == sizes.turns * CHECKPOINTS_PER_TURN

        for number in progress(sizes.repeat, "erasing"):
            for name in ("prune", "delete_thread"):
                target = f"{name}-{number}"
                for each in both:
                    each.copy(target)
                server.tidy()
                # Whoever goes second finds the machine as the first left it: take turns at that.
                for each in both if number % 2 else both[::-1]:
                    if name == "prune":
                        each.measure(server, name, partial(each.saver.prune, [target]))
                    else:
                        each.measure(server, name, partial(each.saver.delete_thread, target))
                    assert each.latest(target) == (before[each.name] if name == "prune" else None)
                    assert each.count(target) == (1 if name == "prune" else 0)
                    each.saver.delete_thread(target)

        for number in progress(sizes.repeat, "copying"):
            ours.measure(server, "copy_thread", partial(saver.copy_thread, "source", f"copy-{number}"))
            ours.measure(server, "fork_thread", partial(saver.fork_thread, "source", f"fork-{number}"))
            for target in (f"copy-{number}", f"fork-{number}"):
                assert ours.latest(target) == before["eventlog"]
                assert ours.count(target) == ours.count("source")
        # The run is in all copies: one call, a transaction for each thread.
        server.tidy()
        done = [time.perf_counter()]
        saver.delete_for_runs([f"run-{sizes.turns // 2}"], on_thread=lambda _: done.append(time.perf_counter()))
        assert len(done) - 1 == 1 + 2 * sizes.repeat
        ours.seconds["delete_for_runs"] = [b - a for a, b in itertools.pairwise(done)]
        for target in ("source", "copy-0", "fork-0"):
            assert ours.latest(target) == before["eventlog"]
            assert ours.count(target) == (sizes.turns - 1) * CHECKPOINTS_PER_TURN
    server.close()
    return [ours, theirs]


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
    """What retention of one partition did, what the disk got back, and what an appending process noticed."""

    events: int
    threads: int
    seconds: float
    drop_seconds: float
    """Of those, after the last thread was dealt with."""
    bytes_before: int
    bytes_after: int
    bytes_vacuumed: int
    beside_seconds: float
    """The same once more, beside a process that puts."""
    puts: int
    before_ms: list[float]
    """Of puts before it: median, 99th percentile, longest."""
    during_ms: list[float]
    drop_ms: float
    """The longest put while the partition was dropped."""


@dataclass
class Run:
    """One run of retention: when it began, when the last thread was dealt with, when it ended."""

    started: float
    dropping: float
    ended: float
    threads: int


def retention(uri: str, template: str, sizes: Sizes, *, drop_idle: bool) -> Retention:
    """Retention of one partition of dead threads: alone, then (on another copy of the database) beside a writer."""
    with database(uri, template) as made, open_saver(made) as saver:
        server = Server(made)
        (events,) = [each.rows for each in saver.partitions(exact=True).partitions if each.rows]
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
    retained = saver.retain(HISTORY, drop_idle=drop_idle, on_thread=lambda _: cuts.append(time.perf_counter()))
    ended = time.perf_counter()
    assert len(retained.partitions) == 1
    assert (retained.dropped_threads if drop_idle else retained.carried_threads) == len(cuts)
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
    """A process of its own that puts small checkpoints, one after the other; yields what stops it.

    Python's lock would be what it waits for, if it were a thread. Its answer is when each put began, and its seconds.
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
    """What the writer does."""
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
    """Milliseconds for each partition whose threads were all deleted before."""
    for number in range(sizes.partitions):
        dead_threads(uri, 20, DAYS_AGO - number)
        with open_saver(uri, DAYS_AGO - number) as saver:
            saver.prune([each.thread_id for each in saver.threads()], strategy="delete")
    Server(uri).tidy()
    with open_saver(uri) as saver:
        started = time.perf_counter()
        retained = saver.retain(HISTORY)
        seconds = time.perf_counter() - started
        assert len(retained.partitions) == sizes.partitions
        assert retained.carried_threads == 0
    return 1000 * seconds / sizes.partitions


def expiry(uri: str, sizes: Sizes) -> float:
    """Threads that expire in a second."""
    with open_saver(uri) as saver:
        started = time.perf_counter()
        expired = saver.expire(HISTORY, limit=sizes.expired)
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
        options = f"-c search_path=clock,pg_catalog,public -c clock.behind={behind}s"
    with pool(uri, options=options) as opened:
        saver = EventLogSaver(opened, partition_interval="day", partitions_ahead=0 if days_ago else 1)
        saver.setup()
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
                    there.execute(CLOCK)
            yield made
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(identifiers[0]))


# --- the report


def mb(size: float) -> str:
    """Megabytes, decimal."""
    return f"{size / 1e6:.1f} MB"


def ms(value: float) -> str:
    """Milliseconds."""
    return f"{value:,.1f} ms"


def show_long(sizes: Sizes, ours: Contender, theirs: Contender) -> None:
    """One long thread."""
    checkpoints = sizes.turns * CHECKPOINTS_PER_TURN
    table = Table("", "eventlog", "postgres", "ratio", title=f"a thread of {checkpoints:,} checkpoints")

    def ratio(a: float, b: float) -> str:
        return f"{b / a:.2f}×" if b < 10 * a else f"{b / a:.0f}×"

    for name in ("prune", "delete_thread"):
        a, b = (1000 * median(each.seconds[name]) for each in (ours, theirs))
        table.add_row(f"{name}, median of {sizes.repeat}", ms(a), ms(b), ratio(a, b))
        a, b = (median(each.wal[name]) for each in (ours, theirs))
        table.add_row("  its WAL", mb(a), mb(b), ratio(a, b))
    table.add_row("delete_for_runs, one run", ms(1000 * median(ours.seconds["delete_for_runs"])), "", "")
    for name in ("copy_thread", "fork_thread"):
        took = 1000 * median(ours.seconds[name])
        table.add_row(f"{name}, per checkpoint", f"{took / checkpoints:.3f} ms", "", "")
    console.print(table)
    console.print(
        "Each right after a checkpoint of the server: most of its WAL are images of the pages that it touches."
    )


def show_retention(carried: Retention, dropped: Retention, per_partition: float, expired: float) -> None:
    """Retention and expiry."""
    title = f"a partition with {carried.events:,} events of {carried.threads:,} dead threads"
    table = Table("", "latest states carried", "idle threads dropped", title=title)

    def row(name: str, show: Callable[[Retention], str]) -> None:
        table.add_row(name, show(carried), show(dropped))

    row("retain", lambda r: f"{r.seconds:.2f} s")
    row("  of which the drop", lambda r: ms(1000 * r.drop_seconds))
    row("tables, before", lambda r: mb(r.bytes_before))
    row("  after", lambda r: mb(r.bytes_after))
    row("  after a vacuum", lambda r: mb(r.bytes_vacuumed))
    row("retain beside a writer", lambda r: f"{r.beside_seconds:.2f} s")
    for index, name in enumerate(("median", "p99", "longest")):
        row(f"  a put, {name}: before", lambda r, index=index: ms(r.before_ms[index]))  # type: ignore[misc]
        row("    during", lambda r, index=index: ms(r.during_ms[index]))  # type: ignore[misc]
    row("    during the drop", lambda r: ms(r.drop_ms))
    console.print(table)
    console.print(f"A partition with nothing to carry: {ms(per_partition)}. Expiry: {expired:,.0f} threads a second.")


def run(uri: str, sizes: Sizes, report: Path | None) -> None:
    """Measure and print."""
    with psycopg.connect(uri, autocommit=True) as conn:
        version = conn.info.server_version // 10000
    console.print(f"PostgreSQL {version}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with database(uri) as made:
        ours, theirs = long_thread(made, sizes)
    show_long(sizes, ours, theirs)
    with database(uri) as dead:
        dead_threads(dead, -(-sizes.events // (EVENTS_PER_TURN * SHORT_TURNS)))
        server = Server(dead)
        server.tidy()
        server.close()
        carried = retention(uri, dead, sizes, drop_idle=False)
        dropped = retention(uri, dead, sizes, drop_idle=True)
        with database(uri, dead) as made:
            expired = expiry(made, sizes)
    with database(uri) as made:
        per_partition = nothing_to_carry(made, sizes)
    show_retention(carried, dropped, per_partition, expired)
    if report is not None:
        numbers = {
            "sizes": asdict(sizes),
            "long_thread": {each.name: {"seconds": each.seconds, "wal_bytes": each.wal} for each in (ours, theirs)},
            "retention": {"carried": asdict(carried), "dropped": asdict(dropped)},
            "empty_partition_ms": per_partition,
            "expired_threads_per_second": expired,
        }
        report.write_text(json.dumps(numbers, indent=2) + "\n")


def main() -> None:
    """Parse arguments, start a server unless one is given, run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--uri", help="a server where databases can be made; by default an embedded one is started")
    args = parser.parse_args()
    sizes = QUICK if args.quick else Sizes()
    if args.uri:
        run(args.uri, sizes, args.json)
        return
    with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder) / "pg") as uri:
        run(uri, sizes, args.json)


if __name__ == "__main__":
    main()
