"""Statistics of the log: its size, its growth, and the cost of reading it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

from psycopg import sql

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.partitions import Partition, read_partitions

__all__ = [
    "CacheStats",
    "Growth",
    "Relation",
    "Replay",
    "Stats",
    "read_stats",
]

#: Growth is measured over this time. A shorter one would say little about a day.
GROWTH_SPAN = timedelta(days=30)
SHORTEST_SPAN = timedelta(days=1)

#: Up to so many checkpoints, all are read; beyond, a sample of about so many.
FEW_CHECKPOINTS = 50_000

#: The relations that hold the savers' data and the tables derived from it.
_LOG = ("events", "streams", "checkpoints", "snapshots")


class CacheStats(NamedTuple):
    """The cache of checkpoint states of one saver, in this process."""

    entries: int
    """States in the cache."""
    bytes: int
    """Approximate memory of the states, in bytes."""
    max_bytes: int
    """The bound, the setting `state_cache_bytes`."""
    hits: int
    """Lookups that found the state, since the saver was made."""
    misses: int
    """Lookups that did not find the state."""


class Relation(NamedTuple):
    """A table of the log with its partitions."""

    name: str
    """The table."""
    rows: int
    """Rows, with those of ended streams."""
    bytes: int
    """Bytes on disk, of which the next three fields are a part."""
    heap_bytes: int
    """Bytes of the rows."""
    index_bytes: int
    """Bytes of the indexes."""
    toast_bytes: int
    """Bytes of values that are stored out of line."""
    is_exact: bool = False
    """Whether rows were counted. Otherwise they are the server's estimate."""


class Growth(NamedTuple):
    """The growth of the log, over the last 30 days or the partitions that they touch."""

    since: datetime
    """The beginning of the measured time."""
    events_per_day: float
    """Appended events per day. In a log younger than a day: events in all."""
    bytes_per_day: float
    """Bytes per day on disk, with indexes; in exact statistics, bytes of bodies."""


class Replay(NamedTuple):
    """Replay lengths: the events that reading a checkpoint looks at, at most."""

    median: int
    """Half of the checkpoints need at most this many."""
    p95: int
    """19 of 20 checkpoints need at most this many."""
    max: int
    """The longest."""


class Stats(NamedTuple):
    """A log in numbers."""

    is_exact: bool
    """Whether everything was counted. `estimates` is then empty."""
    estimates: tuple[str, ...]
    """The fields that are estimates, or computed from a sample."""
    threads: int
    """Threads with data. An estimate may include ended ones."""
    streams: int
    """Streams with data. An estimate may include ended ones."""
    checkpoints: int
    """Checkpoints."""
    events: int
    """Events, with records of operations and void events."""
    snapshots: int
    """Snapshots."""
    relations: list[Relation]
    """The tables, largest first."""
    partitions: list[Partition]
    """The partitions, oldest first."""
    log_bytes: int
    """Bytes of the log and its derived tables on disk, with indexes."""
    body_bytes: int | None
    """Bytes of the bodies of events and snapshots, as stored; None unless exact."""
    states_bytes: int
    """Bytes of the states of all checkpoints, if each were stored whole and uncompressed."""
    growth: Growth
    """The growth per day."""
    replay: Replay
    """The replay lengths."""
    cache: CacheStats
    """The cache of this object, in this process."""


def read_stats(statements: Statements, cache: CacheStats, *, exact: bool) -> Op[Stats]:
    """The log in numbers. With `exact`, counts and sums all rows, which reads the whole log."""
    measured = [(Relation(*row), may_read) for *row, may_read in (yield Query(statements["stats_relations"]))]
    relations = {each.name: each for each, _ in measured}
    partitions = (yield from read_partitions(statements, exact=False)).partitions
    ((set_up_at, now),) = yield Query(statements["stats_begin"])
    since = max(now - GROWTH_SPAN, set_up_at or now - GROWTH_SPAN)
    # Sampling reads a part of the pages, and all rows on them.
    percent = 100.0 if exact else min(100.0, 100.0 * FEW_CHECKPOINTS / max(relations["checkpoints"].rows, 1))
    lengths = yield Query(statements["stats_checkpoints"], (percent,))
    sampled, states_bytes = sum(rows for _, rows, _ in lengths), sum(size for *_, size in lengths)
    counted: dict[str, int] = {"checkpoints": sampled} if percent == 100 else {}
    streams: int | None = None
    body_bytes: int | None = None
    if exact:
        counted["streams"], streams, threads = yield from _count_streams(statements)
        params = {"since": since, "starts": [each.starts_at for each in partitions]}
        found = {number: sums for number, *sums in (yield Query(statements["stats_events"], params))}
        partitions = [
            each._replace(rows=found[number][0] if number in found else 0, is_exact=True)
            for number, each in enumerate(partitions, 1)
        ]
        counted["events"], event_bytes, *recent = (
            sum(column) for column in zip((0,) * 4, *found.values(), strict=True)
        )
        ((counted["snapshots"], snapshot_bytes),) = yield Query(statements["stats_snapshots"])
        body_bytes = event_bytes + snapshot_bytes
        growth = _growth(since, now, *recent)
        for name in [each.name for each, may_read in measured if may_read and each.name not in counted]:
            counted |= yield from _count_rows(statements, name)
    else:
        estimated = {"streams": relations["streams"].rows, "schema": statements.schema}
        # The server's statistics have the number of threads, or the server has none yet.
        if rows := (yield Query(statements["stats_threads"], estimated)):
            ((threads,),) = rows
        else:
            counted["streams"], streams, threads = yield from _count_streams(statements)
        # A partitioned table has no rows of its own.
        relations["events"] = relations["events"]._replace(rows=sum(each.rows for each in partitions))
        lately = [each for each in partitions if each.ends_at > since and each.starts_at <= now]
        since = max(lately[0].starts_at, set_up_at or lately[0].starts_at) if lately else since
        growth = _growth(since, now, sum(each.rows for each in lately), sum(each.bytes for each in lately))
    for name, count in counted.items():
        relations[name] = relations[name]._replace(rows=count, is_exact=True)
    is_all, is_known = "checkpoints" in counted, streams is not None
    checkpoints = relations["checkpoints"].rows
    exactness = {
        "threads": is_known,
        "streams": is_known,
        **{name: relations[name].is_exact for name in ("checkpoints", "events", "snapshots")},
        "states_bytes": is_all,
        "growth": exact,
        "replay": is_all,
    }
    return Stats(
        is_exact=exact,
        estimates=tuple(name for name, is_exact in exactness.items() if not is_exact),
        threads=int(threads),
        streams=relations["streams"].rows if streams is None else streams,
        checkpoints=checkpoints,
        events=relations["events"].rows,
        snapshots=relations["snapshots"].rows,
        relations=list(relations.values()),
        partitions=partitions,
        log_bytes=sum(relations[name].bytes for name in _LOG),
        body_bytes=body_bytes,
        states_bytes=states_bytes if is_all else states_bytes * checkpoints // max(sampled, 1),
        growth=growth,
        replay=_replay(lengths),
        cache=cache,
    )


def _replay(lengths: Sequence[Sequence[int]]) -> Replay:
    """The replay lengths, from the number of checkpoints of each length, shortest first."""
    if not lengths:
        return Replay(0, 0, 0)
    totals = list(accumulate(rows for _, rows, _ in lengths))
    median, p95 = (lengths[bisect_left(totals, fraction * totals[-1])][0] for fraction in (0.5, 0.95))
    return Replay(median, p95, lengths[-1][0])


def _count_streams(statements: Statements) -> Op[tuple[int, int, int]]:
    """How many rows `streams` has, and how many streams and threads have data."""
    ((rows, streams, threads),) = yield Query(statements["stats_streams"])
    return rows, streams, threads


def _count_rows(statements: Statements, table: str) -> Op[dict[str, int]]:
    """The rows of a table in the log's schema. It may be a user's own table with any name."""
    statement = statements.compose(statements.template("stats_table"), table=sql.Identifier(table.replace("%", "%%")))
    return dict((yield Query(statement, {"name": table})))


def _growth(since: datetime, now: datetime, events: int, size: int) -> Growth:
    days = max(now - since, SHORTEST_SPAN) / timedelta(days=1)
    return Growth(since, events / days, size / days)
