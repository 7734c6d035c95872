"""The effect of storage parameters on `streams`, with rows that change in every append, and on `events`, which never
changes.

Each choice has its own database on one server, and all take turns, round after round. The server itself makes the
appends, each in its own transaction, to random streams. During the first half another session holds a transaction
snapshot, as a long report or `pg_dump` does, so that no dead row can be removed.

    python bench/vacuum.py [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.table import Table
from typing_extensions import LiteralString

from bench.server_figures import Server
from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver

console = Console()

MIB = 1024 * 1024

#: For `streams`.
CHOICES = (
    "fillfactor = 50",
    "fillfactor = 70",
    "fillfactor = 90",
    "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02",
    "fillfactor = 50, autovacuum_vacuum_cost_delay = 0",
)

APPEND = """
do $$
declare
    v_body bytea := decode(repeat('0123456789abcdef', 20), 'hex');
begin
    for v_number in 1 .. {appends} loop
        perform eventlog.append_writes_v1(
            'thread ' || (random() * {streams})::integer, '', '1f1e6923-1e13-606b-80f8-' || lpad(v_number::text, 9),
            null, null, null, null, sha256(''), sha256(sha256('') || sha256(v_body)), v_body
        );
        commit;
    end loop;
end
$$
"""


class Round(NamedTuple):
    """The time of a round of appends, and its dead rows."""

    seconds: float
    wal: int
    hot: float
    """Share of the updates."""
    bytes: int
    dead: int
    """The most that there were."""
    vacuums: int


class Subject:
    """A database of its own, with one choice."""

    def __init__(self, uri: str, number: int, choice: str) -> None:
        self.choice = choice
        self._name = f"choice_{number}"
        with psycopg.connect(uri, autocommit=True) as conn:
            conn.execute(sql.SQL("create database {}").format(sql.Identifier(self._name)))
        self.uri = make_conninfo(uri, dbname=self._name)
        self.conn = psycopg.connect(self.uri, autocommit=True)
        EventLogSaver(self.conn).setup()
        self.conn.execute(sql.SQL("alter table eventlog.streams reset (fillfactor)"))
        self.conn.execute(sql.SQL("alter table eventlog.streams set ({})").format(sql.SQL(choice)))
        self.rounds: list[Round] = []

    def drop(self, uri: str) -> None:
        """Drop the database: autovacuum visits all databases in turn, so finished ones would delay the others."""
        self.conn.close()
        with psycopg.connect(uri, autocommit=True) as conn:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(self._name)))

    def append(self, streams: int, appends: int, *, holds: bool) -> Round:
        """One round; with `holds`, half of it under a snapshot that is held."""
        server, before, dead = Server(self.uri), self._updates(), 0
        wal, began = server.wal(), time.perf_counter()
        with psycopg.connect(self.uri) as holder:
            if holds:
                holder.execute("set transaction isolation level repeatable read")
                holder.execute("select 1 from eventlog.streams limit 1")
            self._run(streams, appends // 2)
            dead = self._dead()
        self._run(streams, appends - appends // 2)
        seconds, wal = time.perf_counter() - began, server.wal() - wal
        dead = max(dead, self._dead())
        updates, hot = (after - so_far for after, so_far in zip(self._updates(), before, strict=True))
        bytes_, vacuums = self._row("pg_relation_size(relid), autovacuum_count")
        return Round(seconds, wal, hot / max(1, updates), bytes_, dead, vacuums)

    def _run(self, streams: int, appends: int) -> None:
        numbers = {"appends": sql.Literal(appends), "streams": sql.Literal(streams)}
        self.conn.execute(sql.SQL(APPEND).format(**numbers))

    def _row(self, columns: LiteralString) -> tuple[Any, ...]:
        """The server's statistics of `streams`."""
        # Another session reports its statistics when it is idle for a moment.
        self.conn.execute("select pg_stat_force_next_flush()")
        table = "from pg_stat_user_tables where relid = 'eventlog.streams'::regclass"
        row = self.conn.execute(f"select {columns} {table}").fetchone()
        assert row is not None
        return tuple(row)

    def _updates(self) -> tuple[int, int]:
        updates, hot = self._row("n_tup_upd, n_tup_hot_upd")
        return updates, hot

    def _dead(self) -> int:
        return int(self._row("n_dead_tup")[0])


def streams(uri: str, rounds: int, count: int, appends: int, *, holds: bool) -> None:
    """Compare the choices for `streams`, and print the result."""
    subjects = [Subject(uri, number + 10 * holds, choice) for number, choice in enumerate(CHOICES)]
    for each in subjects:
        each.append(count, count * 8, holds=False)
    for number in range(rounds):
        for each in subjects if number % 2 else subjects[::-1]:
            each.rounds.append(each.append(count, appends, holds=holds))
    title = f"streams: {count:,} of them, {appends:,} appends in each of {rounds} rounds"
    table = Table("", "time", "WAL", "HOT", "MiB", "most dead", "vacuums", title=title + ", a snapshot held" * holds)
    first = subjects[0]
    for each in subjects:
        # Compared round by round, so that other load of the machine affects both.
        ratio = median(one.seconds / other.seconds for one, other in zip(each.rounds, first.rounds, strict=True))
        wal = median(one.wal / other.wal for one, other in zip(each.rounds, first.rounds, strict=True))
        last = each.rounds[-1]
        table.add_row(
            *(each.choice, f"{ratio:.2f}×", f"{wal:.2f}×", f"{median(one.hot for one in each.rounds):.1%}"),
            *(f"{last.bytes / MIB:.2f}", f"{max(one.dead for one in each.rounds):,}", f"{last.vacuums}"),
        )
    console.print(table)
    for each in subjects:
        each.drop(uri)


class Freezing(NamedTuple):
    """The cost of vacuuming a partition: while it grew, and later to freeze old transaction ids."""

    wal: int
    seconds: float
    later_wal: int
    later_seconds: float


def freezing(uri: str, count: int, appends: int) -> None:
    """Compare freezing a partition's rows at their first vacuum with freezing them when they are old."""
    found: dict[str, Freezing] = {}
    for number, (name, age) in enumerate((("later (PostgreSQL's default)", 50_000_000), ("at once", 0))):
        subject = Subject(uri, 20 + number, CHOICES[0])
        server, wal, seconds = Server(subject.uri), 0, 0.0
        subject.conn.execute(sql.SQL("set vacuum_freeze_min_age = {}").format(age))
        for _ in range(4):
            subject.append(count, appends // 4, holds=False)
            start, began = server.wal(), time.perf_counter()
            subject.conn.execute("vacuum eventlog.events")
            wal, seconds = wal + server.wal() - start, seconds + time.perf_counter() - began
        start, began = server.wal(), time.perf_counter()
        subject.conn.execute("vacuum (freeze) eventlog.events")
        found[name] = Freezing(wal, seconds, server.wal() - start, time.perf_counter() - began)
    table = Table(
        *("rows are frozen", "WAL of 4 vacuums", "time", "WAL of freezing the rest", "time"),
        title=f"a partition of events: {appends:,} appends",
    )
    for name, each in found.items():
        table.add_row(
            *(name, f"{each.wal / MIB:.2f} MiB", f"{each.seconds * 1000:.0f} ms"),
            *(f"{each.later_wal / MIB:.2f} MiB", f"{each.later_seconds * 1000:.0f} ms"),
        )
    console.print(table)


@contextlib.contextmanager
def _server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="vacuum-") as folder, embedded_server(Path(folder) / "data") as uri:
        with psycopg.connect(uri, autocommit=True) as conn:
            # Without images of whole pages, which depend on when the server's last checkpoint was.
            quiet = ("synchronous_commit = off", "max_wal_size = '4GB'", "full_page_writes = off")
            for setting in ("autovacuum_naptime = '1s'", *quiet):
                conn.execute(sql.SQL("alter system set {}").format(sql.SQL(setting)))
            conn.execute("select pg_reload_conf()")
        yield uri


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Compare storage parameters of the log's tables")
    parser.add_argument("--quick", action="store_true", help="a few appends, to see that it runs")
    options = parser.parse_args(arguments)
    rounds, count, appends = (2, 50, 400) if options.quick else (4, 2_000, 8_000)
    with _server() as uri:
        streams(uri, rounds, count, appends, holds=False)
        streams(uri, rounds, count, appends, holds=True)
        with psycopg.connect(uri, autocommit=True) as conn:
            # Its WAL would be counted.
            conn.execute("alter system set autovacuum = off")
            conn.execute("select pg_reload_conf()")
        freezing(uri, count, appends * 4)
    return 0


if __name__ == "__main__":
    sys.exit(main())
