"""A log to tamper with, and who does it.

The log has about a thousand events: threads with subgraphs, replaced checkpoints, deletions, prunes, copies, retention
that relocated events and dropped partitions, and seals. A trial changes something in a transaction, verifies in
that transaction, and rolls it back.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg import sql

from langgraph.checkpoint.eventlog import EventLogSaver, Problem
from tests.support.adapters import open_saver
from tests.support.checkpoints import TEXTS, Tables, config_of, put
from tests.support.clock import Clock
from tests.support.server import Server

__all__ = ["CHAINED", "PROJECTED", "SEALED", "TRIALS", "Tamper", "tamper", "tampered"]

TRIALS = int(os.environ.get("EVENTLOG_TEST_TRIALS", "100"))
SEED = int(os.environ.get("EVENTLOG_TEST_SEED", "1"))

DAY = timedelta(days=1)
EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)

#: Columns that the chain of digests covers; `position` and `xid` are not among them.
CHAINED = (
    "thread_id",
    "checkpoint_ns",
    "seq",
    "recorded_at",
    "kind",
    "checkpoint_id",
    "base_seq",
    "as_of",
    "first_at",
    "state_digest",
    "origin_base_seq",
    "origin_body_digest",
    "digest",
    "body",
)

#: What can be told of the projections without decoding. That a keyframe is a checkpoint's event, is; which one, is for
#: rebuilding to say. An epoch may be greater than what the log says: a rebuild raises it.
PROJECTED = {
    "streams": (
        *("thread_id", "checkpoint_ns", "name", "seq", "digest", "latest_checkpoint_id", "written_through"),
        *("erased_through", "begins_at", "active_at", "updated_at"),
    ),
    "checkpoints": ("thread_id", "checkpoint_ns", "checkpoint_id", "seq", "recorded_at", "first_at", "keyframe_at"),
    "snapshots": ("thread_id", "checkpoint_ns", "seq", "recorded_at"),
}

SEALED = {
    "seals": (
        *(
            "number",
            "sealed_at",
            "streams",
            "changed",
            "root",
            "changes",
            "partitions",
            "previous",
            "digest",
            "by",
            "actor",
        ),
    ),
    "sealed": ("stream", "seal", "seq", "digest", "ended_at", "record"),
    "ended": (
        *("stream", "seq", "digest", "ended_at", "partition"),
        *("recorded_at", "previous", "leaf"),
    ),
}


async def _grow(saver: Any, clock: Clock, thread_id: str, ns: str, days: int, ids: Iterator[int]) -> None:
    config = config_of(thread_id, ns=ns)
    for _ in range(days):
        for _ in range(4):
            id_ = f"{next(ids):05}"
            config = await put(saver, config, id_, {"x": [*TEXTS, id_]}, metadata={"run_id": f"run {int(id_) % 7}"})
            await saver.aput_writes(config, [("x", [*TEXTS, id_])], "task")
        # Saved again, with other content.
        await put(saver, config_of(thread_id, ns=ns), id_, {"x": [id_]})


async def _build(uri: str) -> None:
    clock = Clock(uri, behind=30 * DAY)
    settings = {"partition_interval": "day", "partitions_ahead": 1, "snapshot_floor_bytes": 4000}
    ids = iter(range(100_000))
    async with open_saver("async-pool", uri, **settings) as saver:
        await saver.setup()
        for _ in range(2):
            for thread_id in ("ended", "ended too"):
                await _grow(saver, clock, thread_id, "", 1, ids)
            for thread_id in ("plain", "pruned", "deleted", "retained", "idle"):
                await _grow(saver, clock, thread_id, "", 2, ids)
                await _grow(saver, clock, thread_id, "sub|graph:1", 1, ids)
            clock.advance(DAY)
        await saver.log.seal(actor="a test")
        await saver.adelete_thread("ended")
        await saver.adelete_thread("ended too")
        await saver.log.prune(["pruned"], keep_last=6)
        clock.advance(8 * DAY)
        for thread_id in ("plain", "pruned", "retained"):
            await _grow(saver, clock, thread_id, "", 2, ids)
        await saver.log.seal()
        await saver.log.retain(4 * DAY)
        await saver.log.copy_thread("plain", "copied", actor="a test")
        clock.advance(DAY)
        await saver.adelete_thread("deleted")
        await saver.adelete_for_runs(["run 3"])
        await saver.log.prune(["pruned"], keep_last=4)
        await _grow(saver, clock, "ended", "", 1, ids)
        await saver.log.seal()
        for thread_id in [f"{number}" for number in range(14)]:
            await _grow(saver, clock, thread_id, "", 3, ids)
            await _grow(saver, clock, thread_id, "sub|graph:2", 3, ids)
        await saver.acopy_thread("1", "copied too")
        await saver.log.prune(["1", "2"], keep_last=3)
        await saver.adelete_thread("3")
        await saver.log.seal()


@pytest.fixture(scope="module")
def tampered(server: Server) -> Iterator[str]:
    """The log: what a test does to it is rolled back."""
    name = server.create_database(prefix="tampering")
    asyncio.run(_build(server.uri(name)))
    Tables(server.uri(name)).drop_checks()
    yield server.uri(name)
    server.drop_database(name)


class Tamper:
    """Changes the log as a superuser does, and checks the answer of `verify`."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        self.saver = EventLogSaver(conn)
        self.random = random.Random(SEED)

    @contextmanager
    def trial(self) -> Iterator[None]:
        with self.conn.transaction(force_rollback=True):
            self.conn.execute("set local session_replication_role = replica")
            yield

    def problems(self, *threads: str, **options: Any) -> list[Problem]:
        found = self.saver.log.verify(threads or None, **options)
        assert found.found >= len(found.problems)
        return found.problems

    def rows(self, table: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
        """All rows, with where they are; times as PostgreSQL sends them, as no alteration fits Python's."""
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        found = self.conn.execute(
            sql.SQL("select tableoid::bigint, ctid::text, {} from eventlog.{} order by 1, 2").format(
                names, sql.Identifier(table)
            ),
            binary=True,
        ).fetchall()
        return [dict(zip(("tableoid", "ctid", *columns), row, strict=True)) for row in found]

    def execute(self, statement: str, table: str, row: dict[str, Any], column: str = "", *params: Any) -> bool:
        """Whether the database lets it happen: a number that is there already is refused by itself."""
        where = sql.SQL(" where tableoid = %s and ctid = %s::tid")
        text = sql.SQL(statement).format(sql.Identifier(table), *([sql.Identifier(column)] if column else []))  # type: ignore[arg-type]
        try:
            with self.conn.transaction():
                done = self.conn.execute(text + where, (*params, row["tableoid"], row["ctid"]))
        except (psycopg.errors.IntegrityError, psycopg.DataError):
            return False
        assert done.rowcount == 1
        return True

    def altered(self, value: Any) -> Any:
        """A value of which one byte is another."""
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            size, code = (2, ">h") if 0 < value < 6 and self.random.random() < 0.3 else (8, ">q")
            return struct.unpack(code, self.flipped(struct.pack(code, value), size))[0]
        if isinstance(value, datetime):
            micros = (value - EPOCH) // timedelta(microseconds=1)
            return struct.unpack(">q", self.flipped(struct.pack(">q", micros), 8))[0]
        if isinstance(value, bytes):
            return self.flipped(value, len(value))
        place = self.random.randrange(len(value))
        other = self.random.choice([c for c in "abcXYZ019|: é\x01" if c != value[place]])
        return value[:place] + other + value[place + 1 :]

    def flipped(self, data: bytes, size: int) -> bytes:
        place = self.random.randrange(size)
        return data[:place] + bytes([data[place] ^ self.random.randrange(1, 256)]) + data[place + 1 :]

    def alter(self, table: str, row: dict[str, Any], column: str) -> bool:
        """Alter one byte; False where that cannot be."""
        value = row[column]
        if value is None and column == "base_seq":
            # Its digest does not tell the two apart.
            return self.execute("update eventlog.{} set {} = 0", table, row, column)
        if value is None or value == "":
            return False
        param = (
            "'2000-01-01 00:00Z'::timestamptz + %s * interval '1 microsecond'" if isinstance(value, datetime) else "%s"
        )
        return self.execute(f"update eventlog.{{}} set {{}} = {param}", table, row, column, self.altered(value))


@pytest.fixture
def tamper(tampered: str) -> Iterator[Tamper]:
    with psycopg.connect(tampered, autocommit=True) as conn:
        yield Tamper(conn)
