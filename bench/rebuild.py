"""Rebuilding during appends: its speed and memory, and the delay of the writer.

Two logs have 20,000 and 100,000 events: many threads of 90 events and five of 2,000, with small states that grow.
Templates are written by a saver, and copied until there are enough. A separate process rebuilds each log and reports
its memory before and at its peak, while this process appends to its own threads, one event after the other. A third log
is one thread of 10,000 checkpoints with only wrong rows: this process appends to it and to another thread.

    python bench/rebuild.py [--quick] [--workers N] [--json FILE] [--uri postgresql://…]

With ``--uri`` the logs are made in schemas of their own, ``bench_rebuild_…``, and dropped.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver, RebuildProgress

SHORT, LONG, LONG_THREADS = 90, 2_000, 5
#: Threads that are written, to be copied.
TEMPLATES = 5

Checkpoint = Any


def conversation(
    saver: EventLogSaver, thread_id: str, events: int, pause: float = 0, start: int = 0
) -> Iterator[float]:
    """Checkpoints with writes, of a list of the last 20 messages; yields how long each append takes, in seconds."""
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    messages: list[str] = []
    for number in range(start, start + events // 2):
        messages = [*messages[-19:], f"message {number} of {thread_id}, which is as long as a line of text"]
        id_ = f"{number:08}"
        checkpoint: Checkpoint = {
            "v": 4,
            "id": id_,
            "ts": "2026-01-01T00:00:00+00:00",
            "channel_values": {"messages": messages, "step": number},
            "channel_versions": {"messages": id_, "step": id_},
            "versions_seen": {},
            "updated_channels": None,
        }
        started = time.perf_counter()
        config = saver.put(config, checkpoint, {"step": number}, checkpoint["channel_versions"])
        put = time.perf_counter()
        yield put - started
        saver.put_writes(config, [("messages", messages[-1])], f"task {number}")
        yield time.perf_counter() - put
        time.sleep(pause)


def fill(saver: EventLogSaver, events: int) -> None:
    """Write and copy threads until there are so many events."""
    for number in range(LONG_THREADS):
        if number == 0:
            list(conversation(saver, "long 0", LONG))
        else:
            saver.copy_thread("long 0", f"long {number}")
    short = (events - LONG * LONG_THREADS) // SHORT
    for number in range(short):
        if number < TEMPLATES:
            list(conversation(saver, f"short {number}", SHORT))
        else:
            saver.copy_thread(f"short {number % TEMPLATES}", f"short {number}")


def rebuild(uri: str, schema: str, workers: int) -> None:
    """Run in a separate process: prints its measurements as JSON."""
    peaks: dict[int, int] = {}

    def tell(at: RebuildProgress) -> None:
        peaks[at.events] = peak()

    with EventLogSaver.from_conn_string(uri, schema=schema, pool_max_size=workers) as saver:
        list(saver.list(None, limit=1))  # imports and one-time work happen at the first call
        before = peak()
        started = time.perf_counter()
        done = saver.log.rebuild(workers=workers, on_progress=tell)
        seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "events": done.events,
                "seconds": seconds,
                "locked_ms": done.locked_seconds * 1000,
                "rss_before_mib": before / 1024,
                "rss_peak_mib": peak() / 1024,
                "rss_halfway_mib": peaks[min(peaks, key=lambda events: abs(events - done.events // 2))] / 1024,
                "differing": sum(done.differing.values()),
            }
        )
    )


@contextmanager
def child(uri: str, schema: str, workers: int, measured: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that rebuilds, and its measurements."""
    command = [sys.executable, __file__, "--child", uri, "--schema", schema, "--workers", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        yield process
        assert process.stdout is not None
        measured |= json.loads(process.stdout.read())


def peak() -> int:
    """The most memory that this process has had so far, in KiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux, getrusage's figure is inherited from the parent process.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024 if sys.platform == "darwin" else most  # macOS counts bytes


def measure(uri: str, events: int, workers: int, console: Console) -> dict[str, Any]:
    """Fill a log, rebuild it while writing to it, compare it, drop it."""
    schema = f"bench_rebuild_{events}"
    with EventLogSaver.from_conn_string(uri, schema=schema) as saver, dropped(uri, schema):
        saver.setup()
        with console.status(f"Filling a log of {events:,} events"):
            fill(saver, events)
        quiet = list(conversation(saver, "quiet", 400, pause=0.002))
        appends: list[float] = []
        measured: dict[str, Any] = {}
        with console.status(f"Rebuilding {events:,} events"), child(uri, schema, workers, measured) as process:
            number = 0
            while process.poll() is None:
                appends += conversation(saver, f"meanwhile {number}", 100, pause=0.002)
                number += 1
        started = time.perf_counter()
        compared = saver.log.rebuild(check=True, workers=workers)
        assert not any(compared.differing.values()), compared.differences
        return measured | {
            "log": events,
            "check_seconds": time.perf_counter() - started,
            "check_events": compared.events,
            "append_quiet_ms": median(quiet) * 1000,
            "append_ms": median(appends) * 1000,
            "longest_append_ms": max(appends) * 1000,
            "appends": len(appends),
        }


def measure_long(uri: str, checkpoints: int, workers: int, console: Console) -> dict[str, Any]:
    """Fill a log with one thread, damage all of its rows, rebuild it while writing to it and to another, drop it."""
    schema = "bench_rebuild_long"
    with EventLogSaver.from_conn_string(uri, schema=schema) as saver, dropped(uri, schema):
        saver.setup()
        with console.status(f"Filling a thread of {checkpoints:,} checkpoints"):
            list(conversation(saver, "long", 2 * checkpoints))
        with psycopg.connect(uri) as conn:
            damage = "update {}.checkpoints set state_bytes = state_bytes + 1"
            conn.execute(sql.SQL(damage).format(sql.Identifier(schema)))
        appends: dict[str, list[float]] = {"long": [], "other": []}
        measured: dict[str, Any] = {}
        with console.status("Rebuilding it"), child(uri, schema, workers, measured) as process:
            threads = {name: conversation(saver, name, 2_000_000, pause=0.002, start=checkpoints) for name in appends}
            while process.poll() is None:
                for name, thread in threads.items():
                    appends[name].append(next(thread))
        assert not any(saver.log.rebuild(check=True, workers=workers).differing.values())
        return measured | {
            "log": 2 * checkpoints,
            "append_ms": median(appends["other"]) * 1000,
            "longest_append_ms": max(appends["other"]) * 1000,
            "own_append_ms": median(appends["long"]) * 1000,
            "longest_own_append_ms": max(appends["long"]) * 1000,
            "appends": len(appends["long"]),
        }


@contextmanager
def dropped(uri: str, schema: str) -> Iterator[None]:
    """Without the schema before and after."""
    statement = sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema))
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute(statement)
        yield
        conn.execute(statement)


ROWS: dict[str, Callable[[dict[str, float]], str]] = {
    "events rebuilt, by the process": lambda m: f"{m['events']:,}",
    "events per second": lambda m: f"{m['events'] / m['seconds']:,.0f}",
    "events per second, only comparing": lambda m: (
        f"{m['check_events'] / m['check_seconds']:,.0f}" if "check_seconds" in m else ""
    ),
    "memory before, MiB": lambda m: f"{m['rss_before_mib']:.0f}",
    "memory at half of the events, peak, MiB": lambda m: f"{m['rss_halfway_mib']:.0f}",
    "memory at the end, peak, MiB": lambda m: f"{m['rss_peak_mib']:.0f}",
    "rows that differed": lambda m: f"{m['differing']:,}",
    "a stream's row locked, at most, ms": lambda m: f"{m['locked_ms']:.1f}",
    "appends meanwhile": lambda m: f"{m['appends']:,}",
    "an append before, median, ms": lambda m: f"{m['append_quiet_ms']:.2f}" if "append_quiet_ms" in m else "",
    "an append meanwhile, median, ms": lambda m: f"{m['append_ms']:.2f}",
    "the longest append meanwhile, ms": lambda m: f"{m['longest_append_ms']:.0f}",
    "an append to the thread that is put right, median, ms": lambda m: (
        f"{m['own_append_ms']:.2f}" if "own_append_ms" in m else ""
    ),
    "the longest append to it, ms": lambda m: f"{m['longest_own_append_ms']:.0f}" if "own_append_ms" in m else "",
}


def main() -> None:
    """Measure both logs and show the figures side by side."""
    parser = argparse.ArgumentParser(description="Measures rebuilding.")
    parser.add_argument("--quick", action="store_true", help="12,000 and 20,000 events")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--uri")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--schema", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        rebuild(given.child, given.schema, given.workers)
        return
    console = Console(stderr=True)
    sizes = (12_000, 20_000) if given.quick else (20_000, 100_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        nullcontext(given.uri) if given.uri else embedded_server(folder) as uri,
    ):
        measured = [measure(uri, events, given.workers, console) for events in sizes]
        measured.append(measure_long(uri, 1_000 if given.quick else 10_000, given.workers, console))
    table = Table("", *(f"{each['log']:,} events" for each in measured[:-1]), "one damaged thread")
    for name, show in ROWS.items():
        table.add_row(name, *(show(each) for each in measured))
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
