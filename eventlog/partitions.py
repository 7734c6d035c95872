"""What there is: threads with their sizes, partitions with their ranges."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.logger import logger

__all__ = [
    "Partition",
    "Partitions",
    "ThreadSummary",
    "idle_threads",
    "latest_threads",
    "read_partitions",
    "summarize_threads",
    "time_before",
]


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


class Partition(NamedTuple):
    """One partition of the log."""

    name: str
    starts_at: datetime
    ends_at: datetime
    rows: int
    """The server's estimate, from its statistics; exact when asked for."""
    bytes: int
    """On disk, with indexes and free space."""


class Partitions(NamedTuple):
    """The partitions of the log, oldest first."""

    partitions: list[Partition]
    runway: timedelta
    """How long the partitions that are there last, from now on. Appends that find none make it, if they may."""
    is_short: bool
    """Whether there is none beyond the current one."""


def time_before(statements: Statements, age: timedelta) -> Op[datetime]:
    """The database's time, less a duration."""
    ((at,),) = yield Query(statements["time_before"], (age,))
    assert isinstance(at, datetime)
    return at


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


def read_partitions(statements: Statements, *, exact: bool) -> Op[Partitions]:
    """The partitions, and how long they last. Warns when that is short.

    Args:
        exact: count the rows, which reads the whole log.
    """
    rows = yield Query(statements["partitions"])
    now = yield from time_before(statements, timedelta(0))
    partitions = [Partition(*row) for row in rows]
    if exact:
        counts: dict[str, int] = dict((yield Query(statements["count_partitions"])))
        partitions = [each._replace(rows=counts.get(each.name, 0)) for each in partitions]
    # Those that a clock which was ahead has made later on are no reserve.
    reach, ends = 0, now
    for each in partitions:
        if each.starts_at <= ends < each.ends_at:
            reach, ends = reach + 1, each.ends_at
    is_short = reach < 2
    if is_short:
        logger.warning(
            "eventlog.partitions_short", runway=str(ends - now), advice="run setup(), which makes partitions ahead"
        )
    return Partitions(partitions, ends - now, is_short)
