"""The web viewer's pages on a large log: the first page of 100,000 threads, a long thread, a large checkpoint.

Each page is requested over ASGI, without a network, as HTML and as JSON, in turns, in a warm process. Savers put the
threads, with a few events each; one in a hundred waits for an answer.

    python bench/viewer.py [--quick] [--json FILE] [--uri postgresql://…]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psycopg
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from rich.table import Table

from bench.dead_threads import console, converse, database, open_saver, thread
from bench.server_figures import Server
from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from langgraph.checkpoint.eventlog.ui import eventlog_ui

#: The goal for the median of each page, in milliseconds.
GOAL_MS = 300

#: Events of a turn of the conversation.
EVENTS_PER_TURN = 9


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    threads: int = 100_000
    turns: int = 5_000 // EVENTS_PER_TURN + 1
    messages: int = 5_000
    repeat: int = 11


QUICK = Sizes(threads=300, turns=5, messages=100, repeat=3)


def fill(uri: str, sizes: Sizes) -> None:
    """Many short threads, a long one, and one with a state of a kilobyte for each of its messages."""
    console.print(f"Putting {sizes.threads:,} threads …")
    with (
        EventLogSaver.from_conn_string(uri, pool_max_size=8, relaxed_writes=True) as saver,
        ThreadPoolExecutor(8) as workers,
    ):
        for _ in workers.map(lambda number: _put_thread(saver, number), range(sizes.threads)):
            pass
    with open_saver(uri) as saver:
        converse({"": saver}, "long", sizes.turns)
        messages: list[Any] = [
            HumanMessage(f"{number} " * 100 + "x" * 500, id=str(number)) for number in range(sizes.messages)
        ]
        config = saver.put(thread("large"), _checkpoint(messages=messages[:-2]), {"step": 0}, {"messages": "1"})
        saver.put(config, _checkpoint(messages=messages), {"step": 1}, {"messages": "2"})
    server = Server(uri)
    server.tidy()
    server.close()


def _put_thread(saver: EventLogSaver, number: int) -> None:
    metadata: Any = {"source": "loop", "step": 0, "user_id": f"user-{number % 1000}"}
    config = saver.put(thread(f"t-{number:06}"), _checkpoint(x=number), metadata, {"x": "1"})
    if number % 100 == 0:
        saver.put_writes(config, [("__interrupt__", [{"question": "?"}])], f"task {number}", "~__pregel_pull, ask")


def _checkpoint(**values: Any) -> Any:
    return {**empty_checkpoint(), "channel_values": values, "channel_versions": dict.fromkeys(values, "1")}


def pages(log: EventLog) -> Iterator[tuple[str, str]]:
    """The pages to measure: a name and a path."""
    yield "first page of the threads", "/threads"
    yield "threads of a user", "/threads?filter=user_id%3Duser-7"
    yield "threads that wait", "/threads?status=waiting"
    yield "threads by their ids", "/threads?q=t-0005"
    yield "the long thread, oldest first", "/threads/long"
    yield "the long thread, newest first", "/threads/long?newest=1"
    latest = log.namespaces("long")[""]
    yield "its latest checkpoint", f"/threads/long/checkpoints/{latest}"
    yield "the large checkpoint", f"/threads/large/checkpoints/{log.namespaces('large')['']}"
    yield "proof of the long thread", "/threads/long/proof"
    yield "the log", "/log"


async def measure(log: EventLog, repeat: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each page as HTML and as JSON, after one uncounted request; and their sizes."""
    found: dict[str, dict[str, list[float]]] = {}
    transport = httpx.ASGITransport(app=eventlog_ui(log))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as client:
        for name, path in pages(log):
            before, question, after = path.partition("?")
            forms = {"HTML": path, "JSON": f"{before}.json{question}{after}"}
            seconds: dict[str, list[float]] = {form: [] for form in forms}
            for number in range(repeat + 1):
                for form, url in forms.items():
                    started = time.perf_counter()
                    answer = await client.get(url)
                    took = time.perf_counter() - started
                    if answer.status_code != 200:
                        raise SystemExit(f"{url}: {answer.status_code} {answer.text[:500]}")
                    if number:
                        seconds[form].append(took)
                    else:
                        seconds[f"bytes of {form}"] = [len(answer.content)]
            found[name] = seconds
    return found


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """Print the medians, and which page misses the goal."""
    table = Table(title="The viewer's pages")
    for heading in ("", "HTML, median", "slowest", "size", "JSON, median"):
        table.add_column(heading, justify="right" if heading else "left")
    slow = []
    for name, seconds in found.items():
        html = seconds["HTML"]
        table.add_row(
            name,
            f"{1000 * median(html):,.0f} ms",
            f"{1000 * max(html):,.0f} ms",
            f"{seconds['bytes of HTML'][0] / 1000:,.0f} kB",
            f"{1000 * median(seconds['JSON']):,.0f} ms",
        )
        if 1000 * median(html) > GOAL_MS:
            slow.append(name)
    console.print(table)
    console.print(f"Over {GOAL_MS} ms: {', '.join(slow) or 'none'}.")


def run(uri: str, sizes: Sizes, report: Path | None) -> None:
    """Measure and print."""
    with psycopg.connect(uri, autocommit=True) as conn:
        version = conn.info.server_version // 10000
    console.print(f"PostgreSQL {version}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with database(uri) as made:
        fill(made, sizes)
        with EventLog.from_conn_string(made, pool_max_size=8) as log:
            found = asyncio.run(measure(log, sizes.repeat))
    show(found)
    if report is not None:
        report.write_text(json.dumps({"threads": sizes.threads, "seconds": found}, indent=2) + "\n")


def main() -> None:
    """Parse arguments, start a server unless one is given, run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small log, to see that it works")
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
