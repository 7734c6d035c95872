"""Verifying streams that ended: their last records, and that no sealed stream was removed.

A stream ends when only records are left of it and these go with their partition. Its row in `ended` has the last step
of its chain and the content of the last record, but nothing that identifies the thread: the leaf is a hash over the
thread's id, but cannot be computed again.
"""

from __future__ import annotations

import json

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.format.digest import next_digest
from langgraph.checkpoint.eventlog.integrity.chain import MOST_PROBLEMS, Problem

__all__ = ["vanished_streams", "verify_ends"]

#: Rows that are in memory at a time.
PAGE = 1_000


def verify_ends(statements: Statements) -> Op[list[Problem]]:
    """Rows of `ended` that contradict themselves, or partitions, streams and seals."""
    problems: list[Problem] = []
    after = b""
    while True:
        rows = yield Query(statements["verify_last_records"], {"after": after, "rows": PAGE})
        for after, seq, previous, leaf, digest, record, at in rows:
            if next_digest(previous, seq, at, leaf) != digest:
                what = "its row in `ended` was altered: the digest is not that of its last record"
            elif not _leaves_nothing(record, seq):
                what = "its row in `ended` has a last record that does not say that nothing was left"
            else:
                continue
            if len(problems) < MOST_PROBLEMS:
                problems.append(Problem("", "", seq, what, None, after.hex()))
        if len(rows) < PAGE:
            break
    for stream, number, seq, what in (yield Query(statements["verify_ended"], {"rows": MOST_PROBLEMS})):
        problems.append(Problem("", "", seq, what, number, stream.hex()))
    return problems


def _leaves_nothing(record: str, seq: int) -> bool:
    """Whether a record describes an erasure that left only records, or the loss of all remaining events."""
    try:
        says = json.loads(record)
    except (ValueError, RecursionError):
        return False
    if not isinstance(says, dict) or not isinstance(says.get("operation"), str):
        return False
    records, lost = says.get("records"), says.get("lost")
    if records is None:
        return isinstance(lost, list)
    if not isinstance(records, list):
        return False
    numbers = [each[0] if isinstance(each, list) and each else None for each in records]
    return all(isinstance(number, int) and number < seq for number in numbers)


def vanished_streams(statements: Statements, found: list[bytes]) -> Op[list[Problem]]:
    """Streams that a seal contains, but neither the log nor `ended`.

    Args:
        found: names of streams that have events and no row in `streams`.
    """
    rows = yield Query(statements["verify_vanished"], {"found": found, "rows": MOST_PROBLEMS})
    what = "missing: a stream that was sealed up to number {} is not there, and did not end"
    return [Problem("", "", seq, what.format(seq), seal, name.hex()) for name, seal, seq in rows]
