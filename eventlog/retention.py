"""Dropping partitions: which threads have events in them, and the drop itself."""

from __future__ import annotations

from datetime import datetime

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import MissingGrantError

__all__ = ["check_owner", "drop_partition", "threads_before"]


def check_owner(statements: Statements) -> Op[None]:
    """Raises MissingGrantError when the user may not drop partitions. Better before anything was carried than after."""
    ((is_owner, owner),) = yield Query(statements["owner"])
    if not is_owner:
        raise MissingGrantError(
            f"only the log's owner can drop its partitions: run this as {owner!r}, or a member of it"
        )


def threads_before(statements: Statements, before: datetime, after: str, limit: int) -> Op[list[tuple[str, bool]]]:
    """Threads that have events from before a time, in the order of their ids, and whether that still means anything.

    Args:
        after: only greater ids.
        limit: at most this many.
    """
    rows = yield Query(statements["threads_before"], {"before": before, "after": after, "rows": limit})
    return [(thread_id, is_pending) for thread_id, is_pending in rows]


def drop_partition(statements: Statements, name: str, actor: str | None) -> Op[tuple[int, int]]:
    """Drop a partition on which nothing depends; returns its rows and bytes. Run it in one transaction.

    Raises (from the driver):
        LogBusyError: when its lock was not to be had, or something in it is still needed.
        MissingGrantError: when the user does not own the log.
    """
    ((_, rows, size),) = yield Query(statements["drop_partition"], (name, actor))
    return rows or 0, size or 0
