"""Threads with their sizes, and which of them are idle or reach into old partitions."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements

__all__ = ["ThreadSummary", "idle_threads", "latest_threads", "summarize_threads", "threads_before"]


class ThreadSummary(NamedTuple):
    """A thread and what it takes."""

    thread_id: str
    active_at: datetime | None
    """When a saver last appended to it; None when it was deleted."""
    namespaces: int
    checkpoints: int
    events: int
    bytes: int
    """Of event bodies and snapshots, as stored."""


def summarize_threads(statements: Statements, thread_ids: list[str]) -> Op[list[ThreadSummary]]:
    """Threads in the order of the ids; those that never were are left out."""
    rows = yield Query(statements["summarize_threads"], (thread_ids,))
    found = {row[0]: ThreadSummary(*row) for row in rows}
    return [found[id_] for id_ in thread_ids if id_ in found]


def latest_threads(
    statements: Statements, limit: int, before: datetime | ThreadSummary | None
) -> Op[list[ThreadSummary]]:
    """Threads that have data, the last active first, those that were active before a time, or come after a thread."""
    at, id_ = (before.active_at, before.thread_id) if isinstance(before, ThreadSummary) else (before, None)
    rows = yield Query(statements["latest_threads"], {"before": at, "before_id": id_, "rows": limit})
    return (yield from summarize_threads(statements, [id_ for (id_,) in rows]))


def idle_threads(statements: Statements, since: datetime, after: str, limit: int) -> Op[list[ThreadSummary]]:
    """Threads that have data and to which nothing was appended since a time, in the order of their ids."""
    rows = yield Query(statements["idle_threads"], {"since": since, "after": after, "rows": limit})
    return (yield from summarize_threads(statements, [id_ for (id_,) in rows]))


def threads_before(statements: Statements, before: datetime, after: str, limit: int) -> Op[list[tuple[str, bool]]]:
    """Threads that have events from before a time, in the order of their ids, and whether that still means anything."""
    rows = yield Query(statements["threads_before"], {"before": before, "after": after, "rows": limit})
    return [(thread_id, is_pending) for thread_id, is_pending in rows]
