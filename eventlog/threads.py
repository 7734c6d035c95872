"""Threads: their sizes, lists in several orders, and their latest checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements

__all__ = [
    "SORTS",
    "StreamEnd",
    "ThreadSelection",
    "ThreadSummary",
    "idle_threads",
    "list_threads",
    "read_bodies",
    "select_threads",
    "stream_ends",
    "summarize_threads",
    "threads_before",
]

#: The orders of a list of threads.
SORTS = ("activity", "size", "events", "id")


class ThreadSummary(NamedTuple):
    """A thread and its size."""

    thread_id: str
    """The thread."""
    active_at: datetime | None
    """The time of the last append by a saver; None for a deleted thread."""
    namespaces: int
    """Namespaces with data."""
    checkpoints: int
    """Checkpoints."""
    events: int
    """Events, without records of operations."""
    bytes: int
    """Bytes of bodies and snapshots, as stored."""


class ThreadSelection(NamedTuple):
    """The threads to list; None leaves a criterion out. All of them have data."""

    metadata_json: str | None = None
    """Keys and values in the metadata of one of the thread's checkpoints, by JSONB containment."""
    since: datetime | None = None
    """A saver appended to the thread at this time or later."""


def summarize_threads(statements: Statements, thread_ids: Sequence[str]) -> Op[list[ThreadSummary]]:
    """Threads in the order of the ids; threads that never existed are left out."""
    rows = yield Query(statements["summarize_threads"], (list(thread_ids),))
    found = {row[0]: ThreadSummary(*row) for row in rows}
    return [found[id_] for id_ in thread_ids if id_ in found]


def list_threads(
    statements: Statements,
    selection: ThreadSelection,
    sort: str,
    limit: int,
    before: datetime | ThreadSummary | None,
) -> Op[list[ThreadSummary]]:
    """A page of threads.

    Args:
        sort: one of `SORTS`: most recently active first, largest first, most events first, or by id.
        before: the last thread of the previous page; if sorted by activity, it may be a time.
    """
    last = before if isinstance(before, ThreadSummary) else None
    params: dict[str, Any] = {"filter": selection.metadata_json, "since": selection.since, "rows": limit}
    if sort == "activity":
        at = before if last is None else last.active_at
        params |= {"before": at, "before_id": None if last is None else last.thread_id}
        name = "threads_by_activity"
    elif sort == "id":
        params |= {"after": "" if last is None else last.thread_id}
        name = "threads_by_id"
    else:
        is_by_size = sort == "size"
        measure = None if last is None else last.bytes if is_by_size else last.events
        params |= {"by_size": is_by_size, "before": measure, "before_id": None if last is None else last.thread_id}
        name = "threads_by_measure"
    rows = yield Query(statements[name], params)
    return (yield from summarize_threads(statements, [id_ for (id_,) in rows]))


def select_threads(
    statements: Statements, selection: ThreadSelection, thread_ids: Sequence[str]
) -> Op[list[ThreadSummary]]:
    """Which of some threads match the selection, in the order of the ids."""
    ids = list(thread_ids)
    if selection.metadata_json is not None:
        rows = yield Query(statements["threads_that_match"], (ids, selection.metadata_json))
        matching = {id_ for (id_,) in rows}
        ids = [id_ for id_ in ids if id_ in matching]
    found = yield from summarize_threads(statements, ids)
    since = selection.since
    return [each for each in found if since is None or (each.active_at is not None and each.active_at >= since)]


def idle_threads(statements: Statements, since: datetime, after: str, limit: int) -> Op[list[ThreadSummary]]:
    """Threads that have data and to which nothing was appended since a time, in the order of their ids."""
    rows = yield Query(statements["idle_threads"], {"since": since, "after": after, "rows": limit})
    return (yield from summarize_threads(statements, [id_ for (id_,) in rows]))


def threads_before(statements: Statements, before: datetime, after: str, limit: int) -> Op[list[tuple[str, bool]]]:
    """Threads that have events from before a time, in the order of their ids, and whether each still needs
    retention."""
    rows = yield Query(statements["threads_before"], {"before": before, "after": after, "rows": limit})
    return [(thread_id, is_pending) for thread_id, is_pending in rows]


# --- the latest checkpoints of threads


class StreamEnd(NamedTuple):
    """The latest checkpoint of a stream, and one writes event of it."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str | None
    seq: int | None
    """The writes event; None: there is none."""
    recorded_at: datetime | None
    body_bytes: int | None
    step: Any
    """From the checkpoint's metadata, as JSON."""
    has_data: bool
    """Whether the stream has checkpoints or writes."""


def stream_ends(statements: Statements, thread_ids: Sequence[str]) -> Op[list[StreamEnd]]:
    """The latest checkpoints of threads, without bodies: of the root graph, or if it has none, of all namespaces.

    A row for each writes event of the latest checkpoint, in their order, or one row for a stream without any.
    """
    return [StreamEnd(*row) for row in (yield Query(statements["stream_ends"], {"threads": list(thread_ids)}))]


def read_bodies(statements: Statements, ends: Sequence[StreamEnd]) -> Op[list[tuple[StreamEnd, bytes]]]:
    """The bodies of these writes events; events erased in the meantime are left out."""
    places = [(each.thread_id, each.checkpoint_ns, each.seq, each.recorded_at) for each in ends]
    params = [list(column) for column in zip(*places, strict=True)]
    rows = yield Query(statements["read_bodies"], params)
    return [(ends[number - 1], body) for number, body in rows]
