"""Every byte of the log, altered; every row, taken out: tried at random, found, and named.

`EVENTLOG_TEST_TRIALS` is how many trials each test makes, `EVENTLOG_TEST_SEED` where they start.
"""

from __future__ import annotations

from typing import Any

import pytest

from langgraph.checkpoint.eventlog import Problem
from tests.integrity.tampering import CHAINED, PROJECTED, SEALED, TRIALS, Tamper, tamper, tampered

__all__ = ["tamper", "tampered"]  # fixtures


def test_the_untampered_log_verifies(tamper: Tamper) -> None:
    """As it was left; and it has everything that the trials are to meet."""
    found = tamper.saver.log.verify()
    assert found.problems == []
    assert found.seals == 4
    ((events, kinds, relocated, ended, snapshots, dropped),) = tamper.conn.execute(
        """
        select
            (select count(*) from eventlog.events),
            (select array_agg(distinct kind::smallint order by kind::smallint) from eventlog.events),
            (select count(*) from eventlog.events where as_of is not null and kind < 3),
            (select count(*) from eventlog.ended),
            (select count(*) from eventlog.snapshots),
            (select count(*) from eventlog.partitions where dropped_at is not null)
        """
    ).fetchall()
    assert 700 < events < 1500
    assert kinds == [1, 2, 3, 4, 5]
    assert min(relocated, ended, snapshots, dropped) > 0
    assert found.events == events


def near(problems: list[Problem], row: dict[str, Any]) -> bool:
    """Whether one of them names the event, or a neighbour."""
    return any(
        (each.thread_id, each.checkpoint_ns) == (row["thread_id"], row["checkpoint_ns"])
        and abs(each.seq - row["seq"]) <= 1
        for each in problems
    )


def test_any_altered_byte_of_an_event_is_found(tamper: Tamper) -> None:
    rows = tamper.rows("events", CHAINED)
    trials = 0
    while trials < TRIALS:
        row, column = tamper.random.choice(rows), tamper.random.choice(CHAINED)
        with tamper.trial():
            if not tamper.alter("events", row, column):
                continue
            trials += 1
            problems = tamper.problems(row["thread_id"])
            assert near(problems, row), (row, column, problems)
            if column not in ("thread_id", "checkpoint_ns"):
                assert problems[0][:2] == (row["thread_id"], row["checkpoint_ns"])


def test_any_deleted_event_is_found(tamper: Tamper) -> None:
    rows = tamper.rows("events", CHAINED[:5])
    for _ in range(TRIALS):
        row = tamper.random.choice(rows)
        with tamper.trial():
            assert tamper.execute("delete from eventlog.{}", "events", row)
            problems = tamper.problems(row["thread_id"])
            assert problems, row
            assert problems[0][:2] == (row["thread_id"], row["checkpoint_ns"])
            assert near(problems, row), (row, problems)


def test_any_altered_byte_of_an_operation_record_is_found(tamper: Tamper) -> None:
    """What vouches for what is gone: each byte of it counts."""
    rows = [row for row in tamper.rows("events", CHAINED) if row["kind"] > 2]
    for _ in range(TRIALS // 4):
        row = tamper.random.choice(rows)
        with tamper.trial():
            assert tamper.alter("events", row, "body")
            assert near(tamper.problems(row["thread_id"]), row)


@pytest.mark.parametrize("table", PROJECTED)
def test_any_altered_byte_of_a_projection_is_found(tamper: Tamper, table: str) -> None:
    """One byte of what can be told without decoding."""
    rows = tamper.rows(table, PROJECTED[table])
    trials = 0
    while trials < TRIALS // 3:
        row, column = tamper.random.choice(rows), tamper.random.choice(PROJECTED[table])
        with tamper.trial():
            if not tamper.alter(table, row, column):
                continue
            trials += 1
            named = {each[:2] for each in tamper.problems(row["thread_id"])}
            assert (row["thread_id"], row["checkpoint_ns"]) in named or column in ("thread_id", "checkpoint_ns"), (
                row,
                column,
                named,
            )
            assert column not in ("thread_id", "checkpoint_ns") or tamper.problems(), (row, column)


@pytest.mark.parametrize("table", ["streams", "checkpoints"])
def test_any_deleted_projection_row_is_found(tamper: Tamper, table: str) -> None:
    """A row that is gone. (Of `snapshots` any may be: they are for speed.)"""
    rows = tamper.rows(table, PROJECTED[table])
    for _ in range(TRIALS // 5):
        row = tamper.random.choice(rows)
        with tamper.trial():
            assert tamper.execute("delete from eventlog.{}", table, row)
            named = {each[:2] for each in tamper.problems(row["thread_id"])}
            assert named == {(row["thread_id"], row["checkpoint_ns"])}


@pytest.mark.parametrize("table", SEALED)
def test_any_altered_byte_of_a_seal_is_found(tamper: Tamper, table: str) -> None:
    """One byte of the seals, of what they cover, or of what vouches for streams that ended."""
    rows = tamper.rows(table, SEALED[table])
    trials = 0
    while trials < TRIALS // 4:
        row, column = tamper.random.choice(rows), tamper.random.choice(SEALED[table])
        with tamper.trial():
            if not tamper.alter(table, row, column):
                continue
            trials += 1
            assert tamper.problems(), (row, column)


@pytest.mark.parametrize("table", SEALED)
def test_any_deleted_seal_row_is_found(tamper: Tamper, table: str) -> None:
    for row in tamper.rows(table, SEALED[table]):
        with tamper.trial():
            assert tamper.execute("delete from eventlog.{}", table, row)
            assert tamper.problems(), row
