"""The log as a whole: its size and growth, how long its partitions last, and its readers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from eventlog.errors import CursorError, NotSetUpError
from langgraph.checkpoint.eventlog import Holder, Lag, Partition, Partitions, ProjectionState, Stats
from langgraph.checkpoint.eventlog.viewing.proof import seal_document
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.texts import iso
from langgraph.checkpoint.eventlog.viewing.threads import entries_of

__all__ = ["log"]

#: The number of largest threads, and of partitions with shown growth.
MOST_LARGEST = 10
MOST_GROWTH = 24

#: Characters of a statement that holds the feed back.
MOST_QUERY = 200


async def log(reader: Reader, *, largest: bool = False) -> dict[str, Any]:
    """The log in figures. Counts are the server's estimates.

    Args:
        largest: name the largest threads too, which reads the sizes of all.
    """
    stats: Stats = await reader.run("stats")
    there: Partitions = await reader.run("partitions")
    projections: list[ProjectionState] = await reader.run("projections")
    seals = await reader.run("seals", limit=1)
    biggest = None
    if largest:
        biggest = await entries_of(reader, await reader.run("threads", sort="size", limit=MOST_LARGEST))
    now = datetime.now(timezone.utc)
    snapshots = next((each for each in stats.relations if each.name == "snapshots"), None)
    return {
        "time": iso(now),
        "schema": reader.context.settings.schema_name,
        "stats": {
            "is_exact": stats.is_exact,
            **{name: getattr(stats, name) for name in ("threads", "streams", "checkpoints", "events", "snapshots")},
            "log_bytes": stats.log_bytes,
            "states_bytes": stats.states_bytes,
            "events_per_day": round(stats.growth.events_per_day, 1),
            "bytes_per_day": round(stats.growth.bytes_per_day, 1),
            "since": iso(stats.growth.since),
            "relations": [each._asdict() for each in stats.relations],
        },
        "partitions": [_partition(each, now) for each in there.partitions],
        "runway": {"seconds": there.runway.total_seconds(), "is_short": there.is_short},
        "largest": biggest,
        "growth": [_growth(each, now) for each in there.partitions if each.starts_at <= now][-MOST_GROWTH:],
        "feed": await _feed(reader, now),
        "projections": [await _projection(reader, each) for each in projections],
        "snapshots": {
            "count": stats.snapshots,
            "bytes": 0 if snapshots is None else snapshots.bytes,
            "replay": stats.replay._asdict(),
        },
        "seals": {"latest": seal_document(seals[0]) if seals else None},
    }


def _partition(partition: Partition, now: datetime) -> dict[str, Any]:
    return {
        "name": partition.name,
        "starts_at": iso(partition.starts_at),
        "ends_at": iso(partition.ends_at),
        "rows": partition.rows,
        "bytes": partition.bytes,
        "is_current": partition.starts_at <= now < partition.ends_at,
    }


def _growth(partition: Partition, now: datetime) -> dict[str, Any]:
    """The amount appended per day of a partition; for the current one, until now."""
    days = max((min(partition.ends_at, now) - partition.starts_at) / timedelta(days=1), 1.0)
    return {
        "from": iso(partition.starts_at),
        "to": iso(min(partition.ends_at, now)),
        "events_per_day": round(partition.rows / days, 1),
        "bytes_per_day": round(partition.bytes / days, 1),
    }


async def _feed(reader: Reader, now: datetime) -> dict[str, Any]:
    """The feed's end and what holds it back."""
    try:
        end = await reader.run("tail_position")
        lag: Lag = await reader.run("lag", end)
    except NotSetUpError as exc:
        # A subscriber has no feed of its own; the rest of the page is still right.
        return {"end": None, "unsettled": 0, "lag_seconds": None, "held_by": None, "error": str(exc)}
    return {
        "end": str(end),
        "unsettled": lag.unsettled,
        "lag_seconds": _held_seconds(lag, now),
        "held_by": None if lag.held_by is None else _holder(lag.held_by),
        "error": None,
    }


def _held_seconds(lag: Lag, now: datetime) -> float:
    """For how long events wait to be settled: 0 when none does."""
    if not lag.unsettled or lag.held_by is None or lag.held_by.started_at is None:
        return 0.0
    return round(max(0.0, (now - lag.held_by.started_at).total_seconds()), 3)


def _holder(holder: Holder) -> dict[str, Any]:
    fields = holder._asdict()
    query = None if holder.query is None else holder.query[:MOST_QUERY]
    return {**fields, "started_at": iso(holder.started_at), "query": query}


async def _projection(reader: Reader, state: ProjectionState) -> dict[str, Any]:
    waiting, oldest, error = None, None, None
    try:
        lag: Lag = await reader.run("lag", state.cursor)
        waiting, oldest = lag.waiting, lag.oldest_seconds
    except (NotSetUpError, CursorError) as exc:
        error = str(exc)
    return {
        "name": state.name,
        "version": state.version,
        "events": state.events,
        "cursor": None if state.cursor is None else str(state.cursor),
        "applied_at": iso(state.applied_at),
        "caught_up_at": iso(state.caught_up_at),
        "source": state.source,
        "waiting": waiting,
        "oldest_seconds": oldest,
        "error": error,
    }
