"""What the log and its threads take, how the log grows, and what reading it costs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.partitions import Partition, read_partitions

__all__ = [
    "CacheStats",
    "Growth",
    "Relation",
    "Replay",
    "Stats",
    "ThreadSummary",
    "idle_threads",
    "latest_threads",
    "read_stats",
    "summarize_threads",
    "threads_before",
]

#: Growth is that of so much time. Less than a day would say little about a day.
GROWTH_SPAN = timedelta(days=30)
SHORTEST_SPAN = timedelta(days=1)

#: Checkpoints of which all are looked at, and about how many are, where there are more.
FEW_CHECKPOINTS = 50_000

#: The relations that hold what savers wrote and what is derived from it.
_LOG = ("events", "streams", "checkpoints", "snapshots")


class CacheStats(NamedTuple):
    """What a cache of states holds, and how often it was of use since the saver was made."""

    entries: int
    bytes: int
    """Approximate memory of what it holds."""
    max_bytes: int
    hits: int
    """How often a state was asked for and was there."""
    misses: int


class Relation(NamedTuple):
    """A table, with its partitions if it has any."""

    name: str
    rows: int
    """The server's estimate."""
    bytes: int
    """On disk: the following three, and what the server keeps beside them."""
    heap_bytes: int
    index_bytes: int
    toast_bytes: int
    """Of values that are kept out of line: large bodies."""


class Growth(NamedTuple):
    """How fast the log grows."""

    since: datetime
    """What was appended since then was looked at."""
    events_per_day: float
    bytes_per_day: float
    """On disk, with indexes; of bodies alone where it was counted exactly."""


class Replay(NamedTuple):
    """How far checkpoints are from their keyframes: the most events that reading one looks at, in events."""

    median: int
    p95: int
    """19 of 20 checkpoints are not farther."""
    max: int


class Stats(NamedTuple):
    """A log in numbers."""

    is_exact: bool
    """Whether rows were counted; otherwise counts are estimates, and so is what is worked out of a sample."""
    threads: int
    """That have data; estimated ones may have none."""
    streams: int
    checkpoints: int
    events: int
    """Records of operations, and void ones, among them."""
    snapshots: int
    relations: list[Relation]
    """Tables, the largest first."""
    partitions: list[Partition]
    """Oldest first."""
    log_bytes: int
    """What the log and all that is derived from it take: on disk; of bodies alone where it was counted exactly."""
    states_bytes: int
    """What the states of all checkpoints would take, each written whole, serialized and not compressed."""
    growth: Growth
    replay: Replay
    cache: CacheStats
    """Of this saver, in this process."""


def read_stats(statements: Statements, cache: CacheStats, *, exact: bool) -> Op[Stats]:
    """The log in numbers. With `exact`, counts and sums all rows, which reads the whole log."""
    relations = [Relation(*row) for row in (yield Query(statements["stats_relations"]))]
    rows = {each.name: each.rows for each in relations}
    there = yield from read_partitions(statements, exact=exact)
    ((set_up_at, now),) = yield Query(statements["stats_begin"])
    # Sampling reads a part of the pages, and all rows on them.
    percent = 100.0 if exact else min(100.0, 100.0 * FEW_CHECKPOINTS / max(rows["checkpoints"], 1))
    ((sampled, states_bytes, *replay),) = yield Query(statements["stats_checkpoints"], (percent,))
    is_all = percent == 100
    checkpoints = sampled if is_all else rows["checkpoints"]
    counts = {**rows, "checkpoints": checkpoints}
    log_bytes = sum(each.bytes for each in relations if each.name in _LOG)
    since = max(now - GROWTH_SPAN, set_up_at or now - GROWTH_SPAN)
    if exact:
        ((streams, threads),) = yield Query(statements["stats_streams"])
        ((events, event_bytes, *recent),) = yield Query(statements["stats_events"], {"since": since})
        ((snapshots, snapshot_bytes),) = yield Query(statements["stats_snapshots"])
        counts.update(streams=streams, events=events, snapshots=snapshots)
        log_bytes = event_bytes + snapshot_bytes
        growth = _growth(since, now, *recent)
    else:
        estimated = {"streams": rows["streams"], "schema": statements.schema}
        # The server's statistics know how many threads there are, or it has none yet.
        if found := (yield Query(statements["stats_threads"], estimated)):
            ((threads,),) = found
        else:
            ((_, threads),) = yield Query(statements["stats_streams"])
        lately = [each for each in there.partitions if each.ends_at > since and each.starts_at <= now]
        since = max(lately[0].starts_at, set_up_at or lately[0].starts_at) if lately else since
        growth = _growth(since, now, sum(each.rows for each in lately), sum(each.bytes for each in lately))
    return Stats(
        is_exact=exact,
        threads=int(threads),
        streams=counts["streams"],
        checkpoints=checkpoints,
        events=counts["events"],
        snapshots=counts["snapshots"],
        relations=relations,
        partitions=there.partitions,
        log_bytes=log_bytes,
        states_bytes=states_bytes if is_all else states_bytes * checkpoints // max(sampled, 1),
        growth=growth,
        replay=Replay(*replay),
        cache=cache,
    )


def _growth(since: datetime, now: datetime, events: int, size: int) -> Growth:
    days = max(now - since, SHORTEST_SPAN) / timedelta(days=1)
    return Growth(since, events / days, size / days)


# --- of threads


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
