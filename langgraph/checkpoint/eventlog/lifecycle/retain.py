"""Retention: the oldest partitions of the log are dropped, after what threads still need was carried forward.

A thread is cut in a transaction of its own, before anything is dropped: what survives is appended again, now, and a
record in the log says that all it recorded earlier is void. Nothing can come to depend on those events any more, so the
partitions can be dropped at any later time: retention can be interrupted anywhere and run again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.archive import Archive
from eventlog.db.query import Op, Pause, Script, completed
from eventlog.errors import EventLogError, EventTooLargeError, LogBusyError, LogCorruptedError
from eventlog.logger import logger
from eventlog.partitions import Partition, check_owner, drop_partition, ensure_partitions, read_partitions, time_before
from eventlog.records import Erased, Operation, ThreadOutline
from eventlog.threads import threads_before
from langgraph.checkpoint.eventlog._arguments import actor_of, duration_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.lifecycle.erase import Eraser, delete_thread
from langgraph.checkpoint.eventlog.lifecycle.rules import Kept, keep_since
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread

__all__ = ["Retained", "retain"]

#: Threads that are looked for at a time.
PAGE = 500

#: How often dropping is tried when somebody else uses the log at that moment, and the pauses between, in seconds.
DROP_ATTEMPTS = 30
DROP_PAUSE_SECONDS = 0.5


@dataclass(slots=True)
class Retained:
    """What retention did, or would do."""

    before: datetime | None = None
    """The log begins here now. None when no partition was old enough."""
    partitions: list[Partition] = field(default_factory=list)
    """Those that were dropped, oldest first."""
    carried_threads: int = 0
    """Threads whose history was cut; their latest state was carried forward where it was older."""
    dropped_threads: int = 0
    """Idle threads that went with the partitions (`drop_idle`)."""
    archives: list[Path] = field(default_factory=list)
    """One file for each partition, if asked for."""


@dataclass(frozen=True, slots=True)
class _Request:
    history: timedelta
    drop_idle: bool
    archive: Archive | None
    dry_run: bool
    actor: str | None
    on_thread: OnThread | None


def retain(
    context: Context,
    serde: SerializerProtocol,
    history: Any,
    *,
    drop_idle: bool,
    archive: str | Path | None,
    dry_run: bool,
    actor: Any,
    on_thread: OnThread | None,
) -> Script[Retained]:
    """Drop the partitions that ended longer ago than `history`. Validates at once; returns the script to run."""
    request = _Request(
        duration_of(history, "history"),
        drop_idle,
        None if archive is None else Archive(Path(archive), context.statements),
        dry_run,
        actor_of(actor),
        on_thread,
    )
    return _retain(context, Eraser(context, serde), request)


def _retain(context: Context, eraser: Eraser, request: _Request) -> Script[Retained]:
    statements = context.statements
    retained = Retained()
    if not request.dry_run:
        yield lambda: check_owner(statements)
        yield lambda: ensure_partitions(statements, context.settings)
    cut = yield lambda: time_before(statements, request.history)
    there = yield lambda: read_partitions(statements, exact=False)
    old = [partition for partition in there.partitions if partition.ends_at <= cut]
    if not old:
        return retained
    before = retained.before = old[-1].ends_at

    failed: dict[str, EventLogError] = {}
    cut_threads = partial(_cut_threads, context, eraser, request, before, retained, failed)
    yield from cut_threads()
    if failed:
        # One must not keep all others from being cut; but nothing is dropped that one needs.
        names = ", ".join(map(repr, list(failed)[:10]))
        raise LogCorruptedError(
            f"{len(failed)} threads could not be carried forward, so no partition was dropped: {names}. Prune each to "
            "see its error, or delete it"
        ) from next(iter(failed.values()))

    for partition in old:
        if not request.dry_run:
            if request.archive is not None:
                path = yield partial(request.archive.write, partition)
                if path is not None:
                    retained.archives.append(path)
            partition = yield from _drop(context, partition, request.actor, cut_threads)
        retained.partitions.append(partition)
    return retained


def _cut_threads(
    context: Context,
    eraser: Eraser,
    request: _Request,
    before: datetime,
    retained: Retained,
    failed: dict[str, EventLogError],
) -> Script[None]:
    """Cut all threads that still have to be."""
    after = ""
    while True:
        page = yield partial(threads_before, context.statements, before, after, PAGE)
        for thread_id, is_pending in page:
            if is_pending:
                try:
                    yield from _cut_thread(context, eraser, request, thread_id, before, retained)
                except (LogCorruptedError, EventTooLargeError) as exc:
                    failed[thread_id] = exc
        if len(page) < PAGE:
            break
        after = page[-1][0]


def _cut_thread(
    context: Context, eraser: Eraser, request: _Request, thread_id: str, before: datetime, retained: Retained
) -> Script[None]:
    is_idle = False

    def choose(_: Eraser, thread: ThreadOutline) -> Op[Kept]:
        nonlocal is_idle
        is_idle = request.drop_idle and not any(
            stream.tip.active_at is not None and stream.tip.active_at >= before for stream in thread.values()
        )
        return completed({ns: set() for ns in thread} if is_idle else keep_since(thread, before))

    operation = Operation("retain", request.actor)
    erased: Erased | None = None
    if request.drop_idle and not request.dry_run:
        erased = yield lambda: delete_thread(context, thread_id, operation, idle_since=before, void_before=before)
    if erased is not None:
        is_idle = True
    else:
        erased = yield lambda: eraser.erase(thread_id, choose, operation, void_before=before, dry_run=request.dry_run)
    if is_idle:
        retained.dropped_threads += 1
    else:
        retained.carried_threads += 1
    if request.on_thread is not None:
        request.on_thread(erased)


def _drop(
    context: Context, partition: Partition, actor: str | None, cut_threads: Callable[[], Script[None]]
) -> Script[Partition]:
    for attempt in range(1, DROP_ATTEMPTS + 1):
        try:
            rows, size = yield lambda: drop_partition(context.statements, partition.name, actor)
        except LogBusyError:
            if attempt == DROP_ATTEMPTS:
                raise
            yield Pause(DROP_PAUSE_SECONDS)
            # A thread that had ended may have been started afresh meanwhile.
            yield from cut_threads()
        else:
            logger.info("eventlog.partition_dropped", partition=partition.name, rows=rows, bytes=size, actor=actor)
            return partition._replace(rows=rows, bytes=size)
    raise AssertionError("unreachable")
