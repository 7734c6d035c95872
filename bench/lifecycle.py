"""Measures erasing, copying, expiry and retention.

If `langgraph-checkpoint-postgres` has the operation too, both perform it in turns, on threads with the same
conversation, and the ratio is printed. It has no retention and no expiry: for these, the delay of appends to another
thread, by another process, is measured.

    python bench/lifecycle.py [--quick] [--json FILE] [--uri postgresql://…]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import sql
from psycopg.rows import dict_row
from rich.table import Table

from bench.dead_threads import (
    EVENTS_PER_TURN,
    QUICK,
    SHORT_TURNS,
    Retention,
    Sizes,
    console,
    converse,
    database,
    dead_threads,
    expiry,
    nothing_to_carry,
    open_saver,
    pool,
    progress,
    retention,
    thread,
)
from bench.server_figures import Server
from eventlog.embedded import embedded_server

CHECKPOINTS_PER_TURN = 5
# --- one long thread, side by side


@dataclass
class MeasuredSaver:
    """One saver, its long thread "source", and the cost of each operation on copies of it."""

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
        """Everything about a thread's latest checkpoint, except its thread and its parent."""
        found = self.saver.get_tuple(thread(thread_id))
        return found and (found.checkpoint, found.metadata, found.pending_writes)

    def count(self, thread_id: str) -> int:
        """How many checkpoints a thread has."""
        with psycopg.connect(self.uri) as conn:
            statement = sql.SQL("select count(*) from {} where thread_id = %s")
            row = conn.execute(statement.format(sql.Identifier(self.schema, "checkpoints")), (thread_id,)).fetchone()
        assert row is not None
        return int(row[0])


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


def long_thread(uri: str, sizes: Sizes) -> list[MeasuredSaver]:
    """Build the thread with both savers, then erase and copy."""
    server = Server(uri)
    with pool(uri, dict_row) as theirs_pool, open_saver(uri) as saver:
        theirs_saver = PostgresSaver(theirs_pool)
        ours = MeasuredSaver("eventlog", saver, uri, "eventlog", partial(saver.copy_thread, "source"))
        theirs = MeasuredSaver("postgres", theirs_saver, uri, "public", copy_rows(uri))
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
                # The first saver's run affects the second's: take turns in going first.
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
            ours.measure(server, "fork_thread", partial(saver.log.fork_thread, "source", f"fork-{number}"))
            for target in (f"copy-{number}", f"fork-{number}"):
                assert ours.latest(target) == before["eventlog"]
                assert ours.count(target) == ours.count("source")
        # The run is in all copies: one call, a transaction for each thread.
        server.tidy()
        done = [time.perf_counter()]
        saver.log.delete_for_runs([f"run-{sizes.turns // 2}"], on_thread=lambda _: done.append(time.perf_counter()))
        assert len(done) - 1 == 1 + 2 * sizes.repeat
        ours.seconds["delete_for_runs"] = [b - a for a, b in itertools.pairwise(done)]
        for target in ("source", "copy-0", "fork-0"):
            assert ours.latest(target) == before["eventlog"]
            assert ours.count(target) == (sizes.turns - 1) * CHECKPOINTS_PER_TURN
    server.close()
    return [ours, theirs]


# --- the report


def mb(size: float) -> str:
    """Megabytes, decimal."""
    return f"{size / 1e6:.1f} MB"


def ms(value: float) -> str:
    """Milliseconds."""
    return f"{value:,.1f} ms"


def show_long(sizes: Sizes, ours: MeasuredSaver, theirs: MeasuredSaver) -> None:
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
