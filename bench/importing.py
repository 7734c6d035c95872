"""Importing from PostgresSaver's tables: the speed, the memory, the resulting size, and where the time goes.

Agents write threads with the incumbent, which are copied until there are enough. Each process imports a part of them
into a log in the same database: reading, encoding, appending, reading back and comparing. Then one process only
compares, like a second import.

    python bench/importing.py [--quick] [--processes N] [--json FILE] [--uri postgresql://…]

A rate is of serialized values and writes that were read, per second of all processes together. With ``--uri`` the
database must be empty.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import sql
from rich.console import Console
from rich.table import Table

from bench.conversation import agent, question
from bench.rebuild import peak
from bench.server_figures import Server
from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver

#: Turns of the threads that are written; each turn is a question, a tool call with 1 KB of result, and an answer.
TURNS = (5, 20, 60)

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


def fill(uri: str, copies: int) -> None:
    """Write the threads, and copy each so many times."""
    with PostgresSaver.from_conn_string(uri) as saver:
        saver.setup()
        graph = agent(saver)
        for turns in TURNS:
            for turn in range(turns):
                graph.invoke(question(turn), {"configurable": {"thread_id": f"agent of {turns} turns"}})
    with psycopg.connect(uri, autocommit=True) as conn:
        for table in TABLES:
            columns = sql.SQL(", ").join(
                sql.Identifier(name)
                for (name,) in conn.execute(
                    "select attname from pg_attribute where attrelid = %s::regclass and attnum > 1"
                    " and not attisdropped order by attnum",
                    (table,),
                )
            )
            copy = (
                "insert into {} (thread_id, {}) select thread_id || ', ' || n, {} from {}, generate_series(2, {}) as n"
            )
            parts = (sql.Identifier(table), columns, columns, sql.Identifier(table), sql.Literal(copies))
            conn.execute(sql.SQL(copy).format(*parts))
        conn.execute("vacuum analyze")


def run(uri: str, part: tuple[int, int], profile: bool) -> None:
    """Run in a separate process: prints its measurements as JSON."""
    with EventLogSaver.from_conn_string(uri, pool_max_size=2) as saver:
        saver.log.threads(limit=1)
        before, used = peak(), time.process_time()
        profiler = cProfile.Profile() if profile else None
        if profiler is not None:
            profiler.enable()
        done = saver.log.import_from(uri, part=part, workers=1)
        if profiler is not None:
            profiler.disable()
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(45)
        assert done.is_done
    print(
        json.dumps(
            {
                "threads": sum(done.threads.values()),
                "checkpoints": done.checkpoints,
                "source_bytes": done.source_bytes,
                "stored_bytes": done.stored_bytes,
                "seconds": done.seconds,
                "cpu_seconds": time.process_time() - used,
                "before_mib": before / 1024,
                "peak_mib": peak() / 1024,
            }
        )
    )


def measure(uri: str, processes: int, profile: bool) -> tuple[list[dict[str, Any]], float]:
    """Import with several processes; returns the measurements of each, and the total seconds."""
    started = time.perf_counter()
    flags = ["--profile"] if profile else []
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", uri, f"--part={n}/{processes}", *flags], stdout=subprocess.PIPE
        )
        for n in range(1, processes + 1)
    ]
    measured: list[dict[str, Any]] = [json.loads(child.communicate()[0]) for child in children]
    return measured, time.perf_counter() - started


def main() -> None:
    """Measure, and show the figures."""
    parser = argparse.ArgumentParser(description="Measures importing.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the threads")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--copies", type=int)
    parser.add_argument("--profile", action="store_true", help="where Python's time goes, of each process")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--uri")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        number, _, count = given.part.partition("/")
        run(given.child, (int(number), int(count)), given.profile)
        return
    console = Console(stderr=True)
    copies = given.copies or (10 if given.quick else 100)
    with (
        tempfile.TemporaryDirectory() as folder,
        nullcontext(given.uri) if given.uri else embedded_server(folder) as uri,
    ):
        with console.status(f"Writing {copies * len(TURNS)} threads"):
            fill(uri, copies)
        with EventLogSaver.from_conn_string(uri) as saver:
            saver.setup()
            estimate = saver.log.estimate_import(uri)
        server = Server(uri)
        before, source = server.tables("eventlog.%"), server.tables("public.checkpoint%")
        with console.status("Importing"):
            parts, seconds = measure(uri, given.processes, given.profile)
        log = server.tables("eventlog.%") - before
        with console.status("Comparing"):
            compared, compared_seconds = measure(uri, given.processes, False)
        server.close()
    values = sum(part["source_bytes"] for part in parts)
    figures: dict[str, Any] = {
        "processes": given.processes,
        "threads": sum(part["threads"] for part in parts),
        "checkpoints": sum(part["checkpoints"] for part in parts),
        "source on disk, MB": source / 1e6,
        "values and writes, MB": values / 1e6,
        "log on disk, MB": log / 1e6,
        "log on disk, estimated, MB": (estimate.log_bytes or 0) / 1e6,
        "seconds, longest process": max(part["seconds"] for part in parts),
        "MB/s of values": values / 1e6 / max(part["seconds"] for part in parts),
        "MB/s of the source's disk": source / 1e6 / max(part["seconds"] for part in parts),
        "of a process, Python's part of the time": max(part["cpu_seconds"] / part["seconds"] for part in parts),
        "MB/s of values, when all is there": values / 1e6 / max(part["seconds"] for part in compared),
        "memory before, MiB": max(part["before_mib"] for part in parts),
        "memory at its peak, MiB": max(part["peak_mib"] for part in parts),
    }
    table = Table("importing", "")
    for name, figure in figures.items():
        table.add_row(name, f"{figure:,.2f}" if isinstance(figure, float) else f"{figure:,}")
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(figures | {"wall seconds": [seconds, compared_seconds]}, indent=2))


if __name__ == "__main__":
    main()
