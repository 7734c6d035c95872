"""A page of a log's threads, each with its status."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from eventlog.db.query import Op, Query
from eventlog.errors import EventLogError, InvalidInputError
from eventlog.read import read_events
from eventlog.streams import Stream, storable
from eventlog.threads import SORTS
from langgraph.checkpoint.eventlog import PendingTask, ThreadStatus, ThreadSummary
from langgraph.checkpoint.eventlog.viewing.arguments import (
    decode_cursor,
    encode_cursor,
    metadata_filter,
    one_of_or_none,
)
from langgraph.checkpoint.eventlog.viewing.channels import INTERRUPT
from langgraph.checkpoint.eventlog.viewing.outcomes import interrupts_in
from langgraph.checkpoint.eventlog.viewing.plain import Limits, Tree, as_tree
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.texts import iso
from projections.tuples import resolve_writes

__all__ = ["STATUSES", "entries_of", "threads"]

STATUSES = ("idle", "waiting", "failed", "deleted", "unknown")

#: Threads on a page, and the most that a caller may ask for.
PAGE = 50
LARGEST_PAGE = 500

#: The number of threads that are searched for a status: a page of a rare status may end before the log does.
MOST_SCANNED = 500
LARGEST_STEP = 125

#: The number of interrupts that are shown of one thread, and the limits of each.
MOST_INTERRUPTS = 5
INTERRUPT_LIMITS = Limits(text=500, items=10, total=2_000)

#: The number of parallel reads of pending interrupts.
AT_ONCE = 4


async def threads(
    reader: Reader,
    *,
    q: str | None = None,
    filter: Sequence[str] = (),
    status: str | None = None,
    sort: str | None = None,
    cursor: str | None = None,
    limit: int = PAGE,
) -> dict[str, Any]:
    """A page of threads, the last active first.

    Args:
        q: only threads with ids that begin with this text, in the order of their ids.
        filter: ``key=value`` texts: only threads with a checkpoint that has all of these in its metadata.
        status: only threads with this status (`STATUSES`). At most 500 threads are searched for a page.
        sort: ``activity``, ``size``, ``events`` or ``id``.
        cursor: `next` of the page before.
        limit: the most threads on the page, 1 to 500.

    Raises:
        InvalidInputError: for an invalid argument.
    """
    query = _Query(q, filter, status, sort)
    limit = max(1, min(limit, LARGEST_PAGE))
    after = query.parse_cursor(cursor)
    if query.status == "deleted":
        entries, following = await _deleted(reader, query, after, limit)
        scanned = len(entries)
    else:
        entries, following, scanned = await _living(reader, query, after, limit)
    return {
        "threads": entries,
        "next": None if following is None else query.cursor_of(following),
        "scanned": scanned,
        "sort": query.sort,
        "query": {"q": query.q, "filter": query.filter, "status": query.status, "sort": sort or None},
    }


class _Query:
    """The validated arguments of a page. Raises InvalidInputError."""

    def __init__(self, q: str | None, filter: Sequence[str], status: str | None, sort: str | None) -> None:
        self.q = storable(q, "q") if q else None
        self.filter = metadata_filter(filter)
        self.status = one_of_or_none(status, "status", STATUSES)
        chosen = one_of_or_none(sort, "sort", SORTS)
        if self.q is not None and chosen not in (None, "id"):
            raise InvalidInputError(f"sort: with q, threads are in the order of their ids: {chosen}")
        if self.status == "deleted" and (self.filter or chosen not in (None, "activity")):
            raise InvalidInputError("deleted threads have no metadata and no sizes: leave out filter and sort")
        self.sort = "id" if self.q is not None and self.status != "deleted" else chosen or "activity"

    def cursor_of(self, last: ThreadSummary) -> str:
        """The place after a thread."""
        thread_id, active_at, *numbers = last
        return encode_cursor(self.sort, active_at, thread_id, *numbers)

    def parse_cursor(self, cursor: str | None) -> ThreadSummary | None:
        """The thread after which the page begins."""
        if not cursor:
            return None
        sort, active_at, thread_id, *numbers = decode_cursor(cursor, 7)
        if sort != self.sort or not isinstance(thread_id, str) or not all(type(each) is int for each in numbers):
            raise InvalidInputError("cursor: it is one of another list of threads: leave it out")
        try:
            at = None if active_at is None else datetime.fromisoformat(active_at)
        except (ValueError, TypeError) as exc:
            raise InvalidInputError("cursor: it has no time") from exc
        return ThreadSummary(thread_id, at, *numbers)


async def _living(
    reader: Reader, query: _Query, after: ThreadSummary | None, limit: int
) -> tuple[list[dict[str, Any]], ThreadSummary | None, int]:
    """Entries of threads with data, the thread after which the next page begins, and the number of searched threads."""
    found: list[dict[str, Any]] = []
    scanned = 0
    if query.q is not None and after is None:
        # By id, a list continues *after* a text.
        exact = await reader.run("threads", [query.q], filter=query.filter or None)
        exact = [each for each in exact if each.active_at is not None]
        found += [each for each in await entries_of(reader, exact) if _fits(query, each)]
        after = ThreadSummary(query.q, None, 0, 0, 0, 0)
    while True:
        rows = LARGEST_STEP if query.status else min(limit + 1, LARGEST_PAGE)
        page = await reader.run("threads", filter=query.filter or None, sort=query.sort, limit=rows, before=after)
        is_last = len(page) < rows
        if query.q is not None:
            of_prefix = [each for each in page if each.thread_id.startswith(query.q)]
            is_last = is_last or len(of_prefix) < len(page)
            page = of_prefix
        for place, entry in enumerate(await entries_of(reader, page)):
            if len(found) == limit:
                return found, after, scanned
            after = page[place]
            scanned += 1
            if _fits(query, entry):
                found.append(entry)
        if is_last:
            return found, None, scanned
        if len(found) >= limit or scanned >= MOST_SCANNED:
            return found, after, scanned


def _fits(query: _Query, entry: dict[str, Any]) -> bool:
    return query.status is None or entry["status"] == query.status


async def _deleted(
    reader: Reader, query: _Query, after: ThreadSummary | None, limit: int
) -> tuple[list[dict[str, Any]], ThreadSummary | None]:
    params = {
        "prefix": query.q or "",
        "before": None if after is None else after.active_at,
        "before_id": None if after is None else after.thread_id,
        "rows": limit + 1,
    }

    def read() -> Op[list[tuple[str, datetime]]]:
        return (yield Query(reader.statements["viewing_deleted_threads"], params))

    rows = await reader.ask(read)
    shown = rows[:limit]
    summaries = await reader.run("threads", [id_ for id_, _ in shown]) if shown else []
    entries = await entries_of(reader, summaries)
    last = ThreadSummary(*shown[-1], 0, 0, 0, 0) if len(rows) > limit else None
    return entries, last


async def entries_of(reader: Reader, summaries: Sequence[ThreadSummary]) -> list[dict[str, Any]]:
    """The entries of threads in lists: sizes, status, and waiting interrupts."""
    if not summaries:
        return []
    statuses: dict[str, ThreadStatus] = await reader.run("thread_status", [each.thread_id for each in summaries])
    slots = asyncio.Semaphore(AT_ONCE)

    async def waiting(status: ThreadStatus | None) -> list[dict[str, Tree]]:
        tasks = [each for each in status.pending if each.kind == "interrupt"] if status else []
        if not status or not tasks:
            return []
        async with slots:
            return await _interrupts(reader, status.thread_id, tasks)

    interrupts = await asyncio.gather(*(waiting(statuses.get(each.thread_id)) for each in summaries))
    return [
        _entry(summary, statuses.get(summary.thread_id), values)
        for summary, values in zip(summaries, interrupts, strict=True)
    ]


def _entry(summary: ThreadSummary, status: ThreadStatus | None, interrupts: list[dict[str, Tree]]) -> dict[str, Any]:
    return {
        "thread_id": summary.thread_id,
        "active_at": iso(summary.active_at),
        "checkpoints": summary.checkpoints,
        "events": summary.events,
        "bytes": summary.bytes,
        "namespaces": summary.namespaces,
        "status": "unknown" if status is None else status.status,
        "step": None if status is None else status.step,
        "checkpoint_id": None if status is None else status.checkpoint_id,
        "error": None if status is None else status.error,
        "interrupts": interrupts,
    }


async def _interrupts(reader: Reader, thread_id: str, tasks: Iterable[PendingTask]) -> list[dict[str, Tree]]:
    """The values of tasks' interrupts."""
    by_stream: dict[tuple[Stream, str], list[PendingTask]] = {}
    for task in list(tasks)[:MOST_INTERRUPTS]:
        by_stream.setdefault((Stream(thread_id, task.checkpoint_ns), task.checkpoint_id), []).append(task)

    def read(stream: Stream, seqs: list[int]) -> Op[list[Any]]:
        states = reader.states
        stored = yield from read_events(reader.statements, stream, seqs)
        return [
            reader.load(write.value)
            for write in resolve_writes(states.codec, stream, stored, {}, reader.context.settings.max_body_bytes)
            if write.channel == INTERRUPT
        ]

    found: list[dict[str, Tree]] = []
    for (stream, _), there in by_stream.items():
        seqs = sorted({task.seq for task in there})
        try:
            values = await reader.ask(lambda stream=stream, seqs=seqs: read(stream, seqs))  # type: ignore[misc]
        except EventLogError as exc:
            found.append({"id": None, "value": f"[{exc}]", "schema": None})
            continue
        for value in values:
            found += interrupts_in(as_tree(value, INTERRUPT_LIMITS.fresh()))
    return found[:MOST_INTERRUPTS]
