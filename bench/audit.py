"""Measures a long thread's history against a listing of all its states, in turns, on the same thread.

The thread is that of an agent that calls a tool once in each turn: five checkpoints and four events of writes a turn.
`list` gives every state in full, as LangGraph has it; `history` a record for each event, checkpoints and writes;
`changes` what each event changed, decoded. All are read to the end, by one process, over a connection that is warm.

    python bench/audit.py [--quick] [--json FILE] [--uri postgresql://…]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from rich.table import Table

from bench.dead_threads import console, converse, database, open_saver, thread
from bench.server_figures import Server
from eventlog.embedded import embedded_server

CHECKPOINTS_PER_TURN = 5

#: The goal: how many times faster than a listing of the states a history must be.
GOAL = 50


def measure(uri: str, turns: int, repeat: int) -> dict[str, list[float]]:
    """Seconds of each way to read the thread, in turns, after one uncounted round."""
    seconds: dict[str, list[float]] = {"list": [], "history": [], "history, newest first": [], "changes": []}
    with open_saver(uri) as saver:
        converse({"": saver}, "audited", turns)
        server = Server(uri)
        server.tidy()
        server.close()
        ways: dict[str, Callable[[], list[Any]]] = {
            "list": lambda: list(saver.list(thread("audited"))),
            "history": lambda: list(saver.log.history("audited")),
            "history, newest first": lambda: list(saver.log.history("audited", newest_first=True)),
            "changes": lambda: list(saver.log.changes("audited")),
        }
        for number in range(repeat + 1):
            for name, way in ways.items():
                gc.collect()
                started = time.perf_counter()
                found = len(way())
                if number:
                    seconds[name].append(time.perf_counter() - started)
                # Every checkpoint must be found; histories also have the events of writes.
                least = turns * CHECKPOINTS_PER_TURN
                if found < least or (name != "list" and found == least):
                    raise SystemExit(f"{name} found {found} of {least}")
    return seconds


def show(seconds: dict[str, list[float]], turns: int) -> None:
    """Print medians, and how many times faster than the listing each is."""
    table = Table(title=f"A thread of {turns * CHECKPOINTS_PER_TURN:,} checkpoints")
    for heading in ("", "median", "fastest", "slowest", "times faster"):
        table.add_column(heading, justify="right" if heading else "left")
    listing = median(seconds["list"])
    for name, all_of_it in seconds.items():
        ratio = listing / median(all_of_it)
        columns = (f"{1000 * each:,.0f} ms" for each in (median(all_of_it), min(all_of_it), max(all_of_it)))
        table.add_row(name, *columns, f"{ratio:.0f}")
    console.print(table)
    ratio = listing / median(seconds["history"])
    console.print(f"The history is {ratio:.0f} times faster; the goal is {GOAL}.")


def run(uri: str, turns: int, repeat: int, report: Path | None) -> None:
    """Measure and print."""
    with psycopg.connect(uri, autocommit=True) as conn:
        version = conn.info.server_version // 10000
    console.print(f"PostgreSQL {version}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with database(uri) as made:
        seconds = measure(made, turns, repeat)
    show(seconds, turns)
    if report is not None:
        report.write_text(json.dumps({"turns": turns, "seconds": seconds}, indent=2) + "\n")


def main() -> None:
    """Parse arguments, start a server unless one is given, run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a short thread, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--uri", help="a server where databases can be made; by default an embedded one is started")
    args = parser.parse_args()
    turns, repeat = (10, 1) if args.quick else (300, 3)
    if args.uri:
        run(args.uri, turns, repeat, args.json)
        return
    with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder) / "pg") as uri:
        run(uri, turns, repeat, args.json)


if __name__ == "__main__":
    main()
