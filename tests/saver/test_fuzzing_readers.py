"""Mutated rows in the database: every reader ends in a value or a `LogCorruptedError`, and other threads are as before.

`EVENTLOG_TEST_TRIALS=10000` looks longer. One saver is enough: which event is read how is the same code for all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from eventlog.errors import HistoryErasedError, LogCorruptedError
from eventlog.events import StoredEvent
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import AsyncFace
from tests.support.checkpoints import Tables, checkpoint_of, config_of, tangle
from tests.support.mutations import mutated, only

TRIALS = int(os.environ.get("EVENTLOG_TEST_TRIALS", "100"))

FUZZED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=max(1, TRIALS // 4),
    # Each example reads a database: hundreds of them to find a smaller one would take very long.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def record(says: bytes, stubs: bytes = b"") -> bytes:
    """A record's body."""
    return b"\x02" + len(says).to_bytes(4, "big") + says + stubs


#: What records of operations may turn out to say.
RECORDS = (
    b"",
    b"\x02",
    b"\x02\xff\xff\xff\xff{}",
    record(b"null"),
    record(b"[]"),
    record(b"[[1, 2], [3, 4]]"),
    record(b"[" * 100_000),
    record(b'{"erased": [[-1000000000000, 5]]}'),
    record(b'{"erased": [[1, 1e400]], "relocated": [[1e400, ""]]}'),
    record(b'{"erased": [[1, 2]], "relocated": [5]}', bytes(80)),
    record(b'{"erased": [[1, 2]]}', bytes(79)),
    record(b'{"erased": [[2, 1]], "anchor": [1, ""]}'),
    record(b'{"erased": [[1, 1000000000000]], "before": 5}'),
    record(b'{"anchor": [9223372036854775807, "zz"], "records": []}'),
    record(b'{"operation": "\xff"}'),
    record(b'{"erased": {"a": "b"}, "records": "x", "relocated": [[' + b"9" * 5000 + b', ""]]}'),
    b"\x01\x80",
)


class Damaged:
    """A thread 'bad' that is altered and put back, and a thread 'good' that nothing may happen to."""

    def __init__(self, saver: EventLogSaver, writer: psycopg.Connection[Any], uri: str) -> None:
        self.saver, self.writer = saver, writer
        self.tables = Tables(uri)
        self.conn = psycopg.connect(uri, autocommit=True)
        # As a broken disk would: the guard trigger sleeps.
        self.conn.execute("set session_replication_role = replica")
        self.time = self.tables.one("select clock_timestamp()")
        saver.log.prune(["bad"], keep_last=7)
        self.events = self.tables.rows(
            "select seq, kind, base_seq, body from {schema}.events where thread_id = 'bad' order by seq"
        )
        self.snapshots = self.tables.rows("select seq, body from {schema}.snapshots where thread_id = 'bad'")
        self.good = list(saver.list(config_of("good")))
        assert len(self.good) == 10

    def alter(self, table: str, seq: int, column: str, value: Any) -> None:
        self.conn.execute(
            sql.SQL("update eventlog.{} set {} = %s where thread_id = 'bad' and seq = %s").format(
                sql.Identifier(table), sql.Identifier(column)
            ),
            (value, seq),
        )

    def readers(self) -> Iterator[Callable[[], Any]]:
        """All who read the thread."""
        saver = self.saver
        for id_ in ("d", "h", None):
            yield lambda id_=id_: saver.get_tuple(config_of("bad", id_))
        yield lambda: list(saver.list(config_of("bad")))
        yield lambda: list(saver.log.history("bad"))
        yield lambda: list(saver.log.history("bad", newest_first=True))
        yield lambda: list(saver.log.changes("bad"))
        yield lambda: saver.log.diff("bad", "d", "h")
        yield self.inspect
        yield lambda: saver.log.state_at("bad", self.time)
        yield lambda: saver.get_delta_channel_history(config=config_of("bad"), channels=["x", "z"])
        yield lambda: saver.log.rebuild(check=True)
        yield self.build

    def inspect(self) -> None:
        if (found := self.saver.log.inspect(config_of("bad"))) is not None:
            for stored in (*found.channels.values(), *found.writes):
                found.load(stored.value)

    def build(self) -> None:
        """What is put upon the latest checkpoint inherits from it."""
        child = checkpoint_of("h1", {"x": ["other"]}, {"x": "h1", "y": "h"})
        with self.writer.transaction(force_rollback=True):
            self.saver.put(config_of("bad", "h"), child, {}, {"x": "h1"})

    def read(self) -> int:
        """Let all of them read; returns how many failed, all of them as they should."""
        failed = 0
        for reader in self.readers():
            exc = only((LogCorruptedError, HistoryErasedError), reader)
            if isinstance(exc, LogCorruptedError):
                assert "of thread 'bad'" in str(exc), exc
                assert "event" in str(exc)
            failed += exc is not None
        return failed + self.follow()

    def follow(self) -> int:
        """An event that cannot be read does not keep the feed from going on."""
        failed, threads = 0, set()
        for event in self.saver.log.tail():
            threads.add(event.thread_id)
            exc = only(LogCorruptedError, lambda event=event: self.decode(event))
            assert exc is None or event.thread_id == "bad"
            failed += exc is not None
        assert "good" in threads
        return failed

    def decode(self, event: StoredEvent) -> None:
        said = self.saver.log.decode(event)
        assert (said.metadata, said.run_id, said.changed, said.task_id, said.writes, said.operation) is not None

    def check_others(self) -> None:
        """Other threads are unaffected."""
        assert list(self.saver.list(config_of("good"))) == self.good
        assert self.saver.log.verify(["good"]).problems == []
        assert len(list(self.saver.log.history("good"))) > 20
        assert {each.thread_id for each in self.saver.log.verify().problems} <= {"bad"}


@pytest.fixture
def damaged(database_uri: str) -> Iterator[Damaged]:
    with (
        psycopg.connect(database_uri, autocommit=True) as conn,
        psycopg.connect(database_uri, autocommit=True) as other,
    ):
        Tables(database_uri).drop_checks()
        writer = EventLogSaver(conn, snapshot_floor_bytes=0)
        for thread_id in ("good", "bad"):
            asyncio.run(tangle(AsyncFace(writer), thread_id))
        found = Damaged(EventLogSaver(other, state_cache_bytes=0, max_body_bytes=2**21), other, database_uri)
        with found.conn:
            yield found


def test_mutated_bodies_are_read_or_reported(damaged: Damaged) -> None:
    """Of checkpoints, writes, records and snapshots."""
    assert damaged.snapshots, "the test needs one"
    assert {kind for _, kind, _, _ in damaged.events} == {1, 2, 4}
    parts = [("events", seq, kind, body) for seq, kind, _, body in damaged.events]
    parts += [("snapshots", seq, 0, body) for seq, body in damaged.snapshots]
    bodies = [body for _, _, kind, body in parts if kind <= 2]
    failed = total = 0

    @FUZZED
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal failed, total
        table, seq, kind, body = data.draw(st.sampled_from(parts))
        altered = data.draw(st.sampled_from(RECORDS) if kind > 2 else mutated(body, bodies))
        damaged.alter(table, seq, "body", altered)
        try:
            failed += damaged.read() > 0
            total += 1
            damaged.check_others()
        finally:
            damaged.alter(table, seq, "body", body)

    check()
    assert damaged.read() == 0
    assert failed > total // 3, (failed, total)


def test_damaged_operation_records_affect_their_thread_alone(damaged: Damaged) -> None:
    """What an operation left behind, each way in which it can be damaged."""
    ((seq, body),) = [(seq, body) for seq, kind, _, body in damaged.events if kind == 4]
    for altered in RECORDS:
        damaged.alter("events", seq, "body", altered)
        damaged.read()
        damaged.check_others()
        assert {each.thread_id for each in damaged.saver.log.verify().problems} == {"bad"}
    damaged.alter("events", seq, "body", body)
    assert damaged.read() == 0


@pytest.mark.portable
def test_events_with_wrong_bases_affect_their_thread_alone(damaged: Damaged) -> None:
    """An event says that it builds on itself, on a later one, on one that is not there or not of its kind."""
    children = [(seq, base_seq) for seq, kind, base_seq, _ in damaged.events if kind == 1 and base_seq is not None]
    for seq, base_seq in (children[0], children[-1]):
        for other in (seq, seq + 1, max(seq for seq, *_ in damaged.events), base_seq + 1, 0, -1, 2**63 - 1):
            damaged.alter("events", seq, "base_seq", other)
            damaged.read()
            damaged.check_others()
        damaged.alter("events", seq, "base_seq", base_seq)
    # Two that build on each other.
    (one, base), (other, other_base) = children[-2:]
    damaged.alter("events", one, "base_seq", other)
    damaged.alter("events", other, "base_seq", one)
    assert damaged.read() > 0
    damaged.alter("events", one, "base_seq", base)
    damaged.alter("events", other, "base_seq", other_base)
    assert damaged.read() == 0
