"""A soak test: graphs run for a while, threads begin and end, and the resources of the process and server are sampled.

8 threads and 8 tasks work; others read, follow the feed, keep a projection, drop old partitions, seal the log and
rebuild its projections; see `bench.lifetimes`. Every few seconds a sample is taken. At the end the log must verify, the
projections must match it, and no resource may have grown without bound; otherwise the exit status is 1.

    python bench/soak.py [--quick] [--minutes 30] [--turns N] [--out FILE] [--uri postgresql://…]
                         [--set "streams: autovacuum_vacuum_scale_factor = 0.02"]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table as Grid

from bench.lifetimes import Lifetimes
from bench.results import Machine, now, these_versions, this_machine
from bench.samples import MIB, Bound, Sample, Sampler, judge
from bench.savers import CONNECTION, pool
from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver

__all__ = ["Soak", "main", "soak"]

console = Console()

WORKERS = 8
POOL = 8
#: Connections of the pools, and one that the feed's follower might hold.
MOST_CONNECTIONS = 2 * POOL + 1

#: Tables with fewer rows are not printed.
WORTH_A_LINE = 100

#: Small caches, so that they fill up during the run.
CACHE_BYTES = 8 * MIB

#: Server settings for a short soak: by default autovacuum runs only once a minute.
NAPTIME = "5s"


class Soak(BaseModel):
    """The result of a soak."""

    measured_at: str
    machine: Machine
    versions: dict[str, str]
    settings: list[str]
    """Storage parameters that were set for it."""
    turns: int
    threads: int
    """The number of completed turns."""
    seals: int
    rebuilds: int
    """Made while all others worked."""
    samples: list[Sample]
    bounds: list[Bound]
    problems: int
    """That `verify` found."""
    differences: int
    """Between the projections and the log."""

    @property
    def holds(self) -> bool:
        """Whether no problem was found."""
        return not self.problems and not self.differences and all(each.holds for each in self.bounds)


def soak(
    uri: str,
    seconds: float,
    turns: int,
    every: float,
    settings: Sequence[str] = (),
    workers: int = WORKERS,
) -> Soak:
    """Run graphs in an empty database for a number of seconds, or turns.

    Args:
        every: seconds between samples.
        settings: ``table: parameter = value`` each, as for ``alter table … set (…)``; `events` are its partitions.
        workers: the number of threads, and of tasks.
    """
    with pool(uri, POOL) as connections:
        saver = EventLogSaver(connections, state_cache_bytes=CACHE_BYTES, message_cache_bytes=CACHE_BYTES)
        saver.setup()
        _set(uri, settings)
        samples, lifetimes = asyncio.run(_run(uri, saver, connections, seconds, turns, every, workers))
        verified = saver.log.verify()
        checked = saver.log.rebuild(check=True)
        with connections.connection() as conn:
            row = conn.execute("show server_version").fetchone()
    assert row is not None
    return Soak(
        measured_at=now(),
        machine=this_machine(),
        versions=these_versions(str(row["server_version"]).split(" ")[0]),
        settings=list(settings),
        turns=lifetimes.turns,
        threads=lifetimes.ended,
        seals=lifetimes.seals,
        rebuilds=lifetimes.rebuilds,
        samples=samples,
        bounds=judge(samples, MOST_CONNECTIONS, CACHE_BYTES),
        problems=verified.found,
        differences=len(checked.differences),
    )


def _set(uri: str, settings: Sequence[str]) -> None:
    with psycopg.connect(uri, autocommit=True) as conn:
        for each in settings:
            table, _, options = each.partition(":")
            names = [table]
            if table == "events":
                names = [name for (name,) in conn.execute("select name from eventlog.partitions").fetchall()]
            for name in names:
                statement = sql.SQL("alter table {} set ({})")
                conn.execute(statement.format(sql.Identifier("eventlog", name), sql.SQL(options)))


async def _run(
    uri: str,
    saver: EventLogSaver,
    connections: object,
    seconds: float,
    turns: int,
    every: float,
    workers: int,
) -> tuple[list[Sample], Lifetimes]:
    async with AsyncConnectionPool(uri, min_size=POOL, max_size=POOL, kwargs=CONNECTION, timeout=120) as opened:
        await opened.wait()
        async_saver = AsyncEventLogSaver(opened, state_cache_bytes=CACHE_BYTES, message_cache_bytes=CACHE_BYTES)
        lifetimes = Lifetimes(saver, async_saver, turns)
        sampler = Sampler(uri, [saver, async_saver], [connections, opened])
        with ThreadPoolExecutor(workers + 3) as executor, contextlib.closing(sampler):
            threads = [executor.submit(lifetimes.work, f"thread {number}") for number in range(workers)]
            threads += [executor.submit(lifetimes.look), executor.submit(lifetimes.operate)]
            watching = executor.submit(_watch, lifetimes, sampler, seconds, every)
            try:
                await lifetimes.run_async(workers)
            finally:
                lifetimes.stopped.set()
            for each in threads:
                await asyncio.wrap_future(each)
            return await asyncio.wrap_future(watching), lifetimes


def _watch(lifetimes: Lifetimes, sampler: Sampler, seconds: float, every: float) -> list[Sample]:
    began = time.monotonic()
    samples: list[Sample] = []
    while True:
        is_over = lifetimes.stopped.wait(every)
        at = time.monotonic() - began
        samples.append(sampler.look(at, lifetimes.turns, list(lifetimes.seconds)))
        if console.is_terminal:
            console.print(_line(samples[-1]))
        if is_over:
            return samples
        if at >= seconds:
            lifetimes.stopped.set()


# --- what is printed


def _line(sample: Sample) -> str:
    streams = sample.tables["streams"]
    return (
        f"{sample.at:5.0f} s  {sample.turns:6,} turns  {sample.rss_bytes / MIB:6.1f} MiB  {sample.files} files  "
        f"{sum(sample.connections.values())} connections  streams: {streams.live:,} live, {streams.dead:,} dead"
    )


def show(found: Soak) -> None:
    """Print the result of a soak."""
    first, last = found.samples[0], found.samples[-1]
    console.print(
        f"{found.turns:,} turns in {last.at:.0f} s, a turn in {last.turn_ms:.0f} ms; {found.threads:,} threads ended; "
        f"{found.seals} seals, {found.rebuilds} rebuilds; "
        f"{last.wal_bytes / MIB:.0f} MiB of WAL; memory {first.rss_bytes / MIB:.0f} to {last.rss_bytes / MIB:.0f} MiB"
    )
    grid = Grid("table", "live", "dead", "most", "MiB", "in all", "updates", "HOT", "vacuums")
    for name, table in sorted(last.tables.items()):
        if table.live + table.dead < WORTH_A_LINE:
            continue
        most = max(each.tables[name].dead for each in found.samples if name in each.tables)
        hot = f"{table.hot / table.updates:.1%}" if table.updates else "–"
        sizes = (f"{table.bytes / MIB:.2f}", f"{table.total_bytes / MIB:.2f}")
        grid.add_row(
            *(name, f"{table.live:,}", f"{table.dead:,}", f"{most:,}", *sizes),
            *(f"{table.updates:,}", hot, f"{table.vacuums:,}"),
        )
    console.print(grid)
    bounds = Grid("bound", "found", "must be", "")
    for each in found.bounds:
        bounds.add_row(each.name, each.found, each.bound, "" if each.holds else "broken")
    bounds.add_row("problems that verify() found", f"{found.problems}", "0", "broken" if found.problems else "")
    is_other = "broken" if found.differences else ""
    bounds.add_row("differences that rebuild(check=True) found", f"{found.differences}", "0", is_other)
    console.print(bounds)


@contextlib.contextmanager
def _server(uri: str | None) -> Iterator[str]:
    if uri is not None:
        yield uri
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, embedded_server(Path(folder) / "data") as own:
        with psycopg.connect(own, autocommit=True) as conn:
            conn.execute(sql.SQL("alter system set autovacuum_naptime = {}").format(NAPTIME))
            conn.execute("select pg_reload_conf()")
        yield own


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Run graphs for a while, and watch what that takes")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--turns", type=int, default=sys.maxsize, help="no more turns than this")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--quick", action="store_true", help="45 seconds, with a sample each second")
    parser.add_argument("--workers", type=int, default=WORKERS, help="threads, and as many tasks")
    parser.add_argument("--set", action="append", default=[], help="a storage parameter, as: streams: fillfactor = 70")
    parser.add_argument("--out", type=Path, help="write all samples there, as JSON")
    parser.add_argument("--uri", help="an empty database of a server that is there (default: an embedded server)")
    options = parser.parse_args(arguments)
    seconds, every = (45.0, 1.0) if options.quick else (options.minutes * 60, options.every)
    with _server(options.uri) as uri:
        found = soak(uri, seconds, options.turns, every, options.set, options.workers)
    show(found)
    if options.out:
        options.out.write_text(found.model_dump_json(indent=1) + "\n")
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
