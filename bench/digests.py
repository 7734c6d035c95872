"""The cost of tamper evidence: digests on each append, seals, verification.

Appends go in turns to two logs in one database: a normal one, and one with functions that compute no digest (replaced
here, in a schema of the bench's own). The ratio is the cost of digests.

    python bench/digests.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from statistics import median
from typing import Any

import psycopg
from langgraph.checkpoint.base import empty_checkpoint
from psycopg import sql
from psycopg_pool import ConnectionPool
from rich.console import Console
from rich.table import Table

from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver

console = Console()

#: Waiting for the disk would hide the cost of computing.
CONNECT: dict[str, Any] = {"autocommit": True, "options": "-c synchronous_commit=off"}

#: Replacements of the functions that compute digests.
NOTHING = """
create or replace function {schema}.event_leaf_v1(
    p_kind smallint, p_thread_id text, p_checkpoint_ns text, p_checkpoint_id text, p_base_seq bigint, p_content bytea
) returns bytea
language sql immutable parallel safe as 'select p_content';
create or replace function {schema}.next_digest_v1(
    p_digest bytea, p_seq bigint, p_recorded_at timestamptz, p_leaf bytea
) returns bytea
language sql immutable parallel safe as 'select p_leaf'
"""


def leave_out_digests(conn: psycopg.Connection[Any], schema: str) -> None:
    """Replace the functions of a schema by functions that compute no digests."""
    conn.execute(sql.SQL(NOTHING).format(schema=sql.Identifier(schema)))


@contextmanager
def logs(uri: str) -> Iterator[dict[str, EventLogSaver]]:
    """Two logs: with digests, and without."""
    with ConnectionPool(uri, min_size=1, max_size=8, kwargs=CONNECT, open=True) as pool:
        savers = {name: EventLogSaver(pool, schema=name) for name in ("digests", "none")}
        for saver in savers.values():
            saver.setup()
        with pool.connection() as conn:
            leave_out_digests(conn, "none")
        yield savers


def puts(saver: EventLogSaver, thread_id: str, size: int) -> Callable[[], None]:
    """Puts one checkpoint after the other, with a value of random bytes."""
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    numbers = count(1)

    def put() -> None:
        nonlocal config
        number = next(numbers)
        checkpoint = {
            **empty_checkpoint(),
            "id": f"{number:09}",
            "channel_values": {"x": os.urandom(size)},
            "channel_versions": {"x": f"{number:032}"},
        }
        config = saver.put(config, checkpoint, {"step": number}, {"x": f"{number:032}"})  # type: ignore[arg-type]

    return put


def writes(saver: EventLogSaver, thread_id: str) -> Callable[[], None]:
    """Puts writes of one small value."""
    numbers = count(1)

    def put_writes() -> None:
        number = next(numbers)
        config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": f"{number:09}"}}
        saver.put_writes(config, [("x", number)], "task")

    return put_writes


def bare(conn: psycopg.Connection[Any], schema: str, size: int) -> Callable[[], None]:
    """Calls only the database function. Nothing is encoded, so the database's part dominates."""
    statement = sql.SQL(
        "select {}.append_writes_v1('bare', '', '1', null, null, null, null, sha256(''), sha256(''), %s)"
    ).format(sql.Identifier(schema))
    body = os.urandom(size)
    return lambda: conn.execute(statement, (body,)).close()


def append(uri: str, rounds: int, calls: int) -> list[dict[str, Any]]:
    """Microseconds for each call with and without digests; the median of the rounds' ratios.

    Rounds are short and take turns, and nothing waits for the disk: other load of the machine affects both.
    """
    found = []
    with logs(uri) as savers, psycopg.connect(uri, **CONNECT) as conn:
        workloads: dict[str, tuple[Callable[[str], Callable[[], None]], int]] = {
            "put_writes, small": (lambda name: writes(savers[name], "w"), calls),
            "put, small": (lambda name: puts(savers[name], "p", 100), calls),
            "put, 100 KB": (lambda name: puts(savers[name], "l", 100_000), 5),
            "append_writes_v1 alone, 200 bytes": (lambda name: bare(conn, name, 200), calls),
            "append_writes_v1 alone, 100 KB": (lambda name: bare(conn, name, 100_000), 5),
        }
        for workload, (make, times) in workloads.items():
            call = {name: make(name) for name in savers}
            seconds: dict[str, list[float]] = {name: [] for name in savers}
            for number in range(rounds + 1):
                for name in list(call) if number % 2 else list(call)[::-1]:
                    started = time.perf_counter()
                    for _ in range(times):
                        call[name]()
                    # The first round warms up.
                    if number:
                        seconds[name].append((time.perf_counter() - started) / times)
            ratio = median(a / b for a, b in zip(seconds["digests"], seconds["none"], strict=True))
            found.append(
                {
                    "workload": workload,
                    "with_us": round(median(seconds["digests"]) * 1e6, 1),
                    "without_us": round(median(seconds["none"]) * 1e6, 1),
                    "ratio": round(ratio, 3),
                }
            )
    return found


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result."""
    started = time.perf_counter()
    result = call()
    return round(time.perf_counter() - started, 3), result


def seals(uri: str, streams: int) -> dict[str, Any]:
    """Seconds of sealing streams with rows made by SQL: all new, none changed, one in a hundred changed."""
    with psycopg.connect(uri, autocommit=True) as conn:
        saver = EventLogSaver(conn, schema="seals")
        saver.setup()
        conn.execute(
            "insert into seals.streams (thread_id, checkpoint_ns, name, seq, digest, xid, updated_at)"
            " select 'thread ' || n, '', uuid_send(gen_random_uuid()), 1, sha256(n::text::bytea), pg_current_xact_id(),"
            " now()"
            " from generate_series(1, %s) as n",
            (streams,),
        )
        conn.execute("vacuum analyze seals.streams")
        first, _ = timed(saver.log.seal)
        conn.execute("vacuum analyze seals.sealed")
        again, _ = timed(saver.log.seal)
        conn.execute("update seals.streams set seq = 2, digest = sha256(digest) where thread_id like '%00'")
        some, sealed = timed(saver.log.seal)
        proof, _ = timed(lambda: saver.log.prove("thread 77"))
        return {
            "streams": streams,
            "all_new_s": first,
            "unchanged_s": again,
            "some_changed_s": some,
            "changed": sealed.changed,
            "proof_s": proof,
        }


def verify(uri: str, streams: int, events: int, size: int) -> list[dict[str, Any]]:
    """Events per second, by workers. The log is made by the database alone."""
    with ConnectionPool(uri, min_size=1, max_size=8, kwargs=CONNECT, open=True) as pool:
        saver = EventLogSaver(pool, schema="verify")
        saver.setup()
        with pool.connection() as conn:
            for number in range(streams):
                conn.execute(
                    "select count(*) from (select verify.append_writes_v1(%s, '', n::text, null, null, null, null,"
                    " sha256(''), sha256(sha256('') || sha256(b.body)), b.body)"
                    " from (select %s::bytea as body) as b cross join generate_series(1, %s) as n) as o",
                    (f"thread {number}", os.urandom(size), events),
                )
            conn.execute("vacuum analyze")
        saver.log.verify(workers=1)
        found = []
        for workers in (1, 2, 4):
            rates = []
            for _ in range(3):
                seconds, verified = timed(lambda workers=workers: saver.log.verify(workers=workers))  # type: ignore[misc]
                assert verified.found == 0
                assert verified.events == streams * events
                rates.append(verified.events / seconds)
            found.append({"workers": workers, "body_bytes": size, "events_per_s": round(median(rates))})
        with pool.connection() as conn:
            conn.execute("drop schema verify cascade")
        return found


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """As a table."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:,}" if not isinstance(value, str) else value for value in row.values()))
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: says little")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    with tempfile.TemporaryDirectory() as directory, embedded_server(directory) as uri:
        appended = append(uri, rounds=3 if quick else 100, calls=20)
        show("Appending, microseconds a call", appended)
        sealed = seals(uri, 2_000 if quick else 100_000)
        show("Sealing, seconds", [sealed])
        verified = [
            *verify(uri, 50, 20 if quick else 500, 200),
            *verify(uri, 50, 10 if quick else 50, 20_000),
        ]
        show("Verifying", verified)
    if arguments.json:
        with open(arguments.json, "w") as file:
            figures = {"append": appended, "seal": sealed, "verify": verified, "machine": platform.platform()}
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
