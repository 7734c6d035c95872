"""A tool-calling agent, persisted by this package and by `langgraph-checkpoint-postgres`, side by side.

Both run in one process on one server, turn by turn in alternation, so that whatever else the machine does happens to
both. Prints what each cost, and the ratio: absolute figures belong to the machine, ratios travel better.

    python bench/agent.py [--turns 300] [--workers 16] [--uri postgresql://…]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))  # run as a script, the benches import each other by name

import workload
from timing import Server, Timer
from workload import agent, prose, question

from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver

console = Console()


@dataclass
class Contender:
    """One saver with its graph, and what it has cost so far."""

    name: str
    saver: Any
    tables: str
    wal: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    half_tables: int = 0

    def __post_init__(self) -> None:
        self.timer = Timer(self.saver, "put", "put_writes", "get_tuple")
        self.graph = agent(self.saver)

    def turn(self, server: Server, number: int) -> None:
        """One turn of the conversation, counted."""
        wal, cpu, started = server.wal(), time.process_time(), time.perf_counter()
        self.graph.invoke(question(number), {"configurable": {"thread_id": "bench"}}, durability="sync")
        self.seconds += time.perf_counter() - started
        self.cpu += time.process_time() - cpu
        self.wal += server.wal() - wal


@contextlib.contextmanager
def pool(uri: str, size: int) -> Iterator[ConnectionPool[Any]]:
    """A pool with the settings that the incumbent's guide gives."""
    kwargs = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with ConnectionPool(uri, min_size=size, max_size=size, kwargs=kwargs, open=True) as opened:
        opened.wait()
        yield opened


def in_parallel(saver: BaseCheckpointSaver[Any], workers: int, seconds: float) -> float:
    """Operations per second: every worker puts, writes and reads on a thread of its own."""
    done = [0] * workers
    failed: list[BaseException] = []
    stop = time.perf_counter() + seconds

    def work(index: int) -> None:
        config: Any = {"configurable": {"thread_id": f"worker-{index}", "checkpoint_ns": ""}}
        messages: list[str] = []
        version: Any = None
        try:
            while time.perf_counter() < stop:
                messages = [*messages[-20:], prose((index, done[index]), 200)]
                version = saver.get_next_version(version, None)
                checkpoint = {
                    **empty_checkpoint(),
                    "v": 4,
                    "channel_values": {"messages": messages},
                    "channel_versions": {"messages": version},
                }
                config = saver.put(config, checkpoint, {"source": "loop"}, {"messages": version})
                saver.put_writes(config, [("messages", messages[-1])], f"task-{done[index]}")
                saver.get_tuple(config)
                done[index] += 3
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(workers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sum(done) / (time.perf_counter() - started)


def mb(size: float) -> str:
    """Megabytes, decimal."""
    return f"{size / 1e6:.1f} MB"


def run(uri: str, turns: int, workers: int, seconds: float) -> None:
    """Measure and print."""
    server = Server(uri)
    with psycopg.connect(uri, autocommit=True) as conn:
        version = conn.execute("show server_version").fetchone()
    assert version is not None
    console.print(
        f"[bold]{turns} turns[/bold], durability 'sync', PostgreSQL {version[0]}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores"
    )
    with pool(uri, workers) as ours_pool, pool(uri, workers) as theirs_pool:
        ours = Contender("eventlog", EventLogSaver(ours_pool), "eventlog.%")
        theirs = Contender("postgres", PostgresSaver(theirs_pool), "public.checkpoint%")
        for contender in (ours, theirs):
            contender.saver.setup()
        for number in track(range(turns), "turns", console=console, transient=True):
            # Whoever goes second finds warmer caches: take turns at that too.
            order = (ours, theirs) if number % 2 else (theirs, ours)
            for contender in order:
                contender.turn(server, number)
                if number + 1 == turns // 2:
                    contender.half_tables = server.tables(contender.tables)

        config = {"configurable": {"thread_id": "bench"}}
        states = [c.graph.get_state(config).values["messages"] for c in (ours, theirs)]
        shapes = [[(m.type, m.content) for m in state] for state in states]
        assert shapes[0] == shapes[1], "the savers disagree about the conversation"

        table = Table("", "eventlog", "postgres", "ratio", title=f"agent, {turns} turns")

        def row(name: str, a: float, b: float, show: Any, more: bool = False) -> None:
            ratio = a / b if more else b / a
            table.add_row(name, show(a), show(b), f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.0f}×")

        def ms(value: float) -> str:
            return f"{value:.2f} ms"

        sizes = [server.tables(c.tables) for c in (ours, theirs)]
        row("WAL", ours.wal, theirs.wal, mb)
        row("tables", *sizes, mb)
        last = 5 * turns // 10
        for name in ("put", "put_writes", "get_tuple"):
            row(f"{name}, median", ours.timer.median_ms(name), theirs.timer.median_ms(name), ms)
            row(f"{name}, late", ours.timer.median_ms(name, last), theirs.timer.median_ms(name, last), ms)
        row("whole run", ours.seconds, theirs.seconds, lambda value: f"{value:.1f} s")
        row("client CPU", ours.cpu, theirs.cpu, lambda value: f"{value:.1f} s")

        # Alternating: the ratio of each pair, as the machine was at that time.
        rates = [[in_parallel(c.saver, workers, seconds) for c in (ours, theirs)] for _ in range(3)]
        best = sorted(rates, key=lambda pair: pair[0] / pair[1])[1]
        row(f"{workers} workers on a pool", *best, lambda value: f"{value:,.0f} op/s", more=True)
        console.print(table)
        growth = [f"{size / c.half_tables:.2f}×" for size, c in zip(sizes, (ours, theirs), strict=True)]
        console.print(f"Twice the turns cost {growth[0]} (eventlog) and {growth[1]} (postgres) the bytes in tables.")
    server.close()


def main() -> None:
    """Parse arguments, start a server unless one is given, run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each parallel run")
    parser.add_argument("--uri", help="a database to use, empty; by default an embedded server is started")
    parser.add_argument("--incompressible", action="store_true", help="random text instead of prose")
    args = parser.parse_args()
    workload.incompressible = args.incompressible
    if args.uri:
        run(args.uri, args.turns, args.workers, args.seconds)
        return
    with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder) / "pg") as uri:
        run(uri, args.turns, args.workers, args.seconds)


if __name__ == "__main__":
    main()
