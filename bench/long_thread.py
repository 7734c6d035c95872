"""One thread with 10,000 checkpoints: time and memory of listing, history, verifying and pruning.

Each operation runs in its own process, to measure its peak memory. Two threads are measured: one with a state that
stays small, and one with a state that grows with each checkpoint to a megabyte.

    python bench/long_thread.py [--checkpoints 10000] [--uri postgresql://…]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from rich.table import Table

from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver

SMALL, GROWING = "small state", "growing state"

#: The growth of a growing state per checkpoint, in bytes.
ENTRY_BYTES = 100


def config_of(thread_id: str, checkpoint_id: str | None = None) -> Any:
    """A config of the root graph."""
    configurable = {"thread_id": thread_id, "checkpoint_ns": ""}
    return {"configurable": configurable if checkpoint_id is None else {**configurable, "checkpoint_id": checkpoint_id}}


def fill(uri: str, thread_id: str, checkpoints: int) -> None:
    """A thread of so many checkpoints, each with a write."""
    entries: list[str] = []
    with EventLogSaver.from_conn_string(uri) as saver:
        config = config_of(thread_id)
        for number in range(checkpoints):
            entry = f"{number:010}".ljust(ENTRY_BYTES, "x")
            entries = [*entries, entry] if thread_id == GROWING else [entry]
            versions: dict[str, str | int | float] = {"entries": f"{number:032}"}
            checkpoint: Any = {
                "v": 4,
                "id": f"{number:010}",
                "ts": "2026-01-01T00:00:00+00:00",
                "channel_values": {"entries": entries},
                "channel_versions": versions,
                "versions_seen": {"node": versions},
            }
            config = saver.put(config, checkpoint, {"source": "loop", "step": number, "parents": {}}, versions)
            saver.put_writes(config, [("entries", [entry])], f"task {number}")


def exhaust(found: Any) -> None:
    """Read all of an iterator, and keep nothing of it."""
    deque(found, maxlen=0)


#: The operations, in this order: the last ones erase.
OPERATIONS: dict[str, Callable[[EventLogSaver, str], Any]] = {
    "get_tuple": lambda saver, thread_id: saver.get_tuple(config_of(thread_id)),
    "list(limit=100)": lambda saver, thread_id: exhaust(saver.list(config_of(thread_id), limit=100)),
    "list()": lambda saver, thread_id: exhaust(saver.list(config_of(thread_id))),
    "history()": lambda saver, thread_id: exhaust(saver.log.history(thread_id)),
    "changes()": lambda saver, thread_id: exhaust(saver.log.changes(thread_id)),
    "verify()": lambda saver, thread_id: saver.log.verify([thread_id]),
    "verify(states=True)": lambda saver, thread_id: saver.log.verify([thread_id], states=True),
    "rebuild(check=True)": lambda saver, thread_id: saver.log.rebuild(check=True),
    "copy_thread": lambda saver, thread_id: saver.log.copy_thread(thread_id, f"copy of {thread_id}"),
    "prune(keep_last=10)": lambda saver, thread_id: saver.log.prune([f"copy of {thread_id}"], keep_last=10),
    "prune": lambda saver, thread_id: saver.log.prune([thread_id]),
    "delete_thread": lambda saver, thread_id: saver.log.delete_thread(thread_id),
}


def measure(uri: str, thread_id: str, name: str, answers: Any) -> None:
    """Run an operation in this process; returns seconds, and MB of memory beyond the memory before."""
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.get_tuple(config_of("none"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        OPERATIONS[name](saver, thread_id)
        seconds = time.perf_counter() - started
        answers.put((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000))


def run(uri: str, checkpoints: int) -> Table:
    """All of it, as a table."""
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.setup()
    table = Table("operation", *[f"{each}: {what}" for each in (SMALL, GROWING) for what in ("s", "MB more")])
    found: dict[str, list[str]] = {"put and put_writes": []}
    spawn = multiprocessing.get_context("spawn")
    for thread_id in (SMALL, GROWING):
        started = time.perf_counter()
        fill(uri, thread_id, checkpoints)
        found["put and put_writes"] += [f"{time.perf_counter() - started:.1f}", "-"]
        for name in OPERATIONS:
            answers = spawn.SimpleQueue()
            process = spawn.Process(target=measure, args=(uri, thread_id, name, answers))
            process.start()
            process.join()
            if process.exitcode != 0:
                raise RuntimeError(f"{name} failed")
            seconds, megabytes = answers.get()
            found.setdefault(name, []).extend([f"{seconds:.2f}", f"{megabytes:.0f}"])
            Console().print(thread_id, name, found[name][-2:])
    for name, cells in found.items():
        table.add_row(name, *cells)
    return table


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--uri", help="a database to make the log in; by default a server of its own")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        uri = arguments.uri
        if uri is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            uri = stack.enter_context(embedded_server(f"{folder}/data"))
        Console().print(run(uri, arguments.checkpoints))


if __name__ == "__main__":
    main()
