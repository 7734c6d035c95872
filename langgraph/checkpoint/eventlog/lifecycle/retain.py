"""Retention: the oldest partitions of the log are dropped, after the events that threads still need were relocated.

Each thread is cut in its own transaction, before anything is dropped. Surviving events are appended again, and a record
in the log says that the thread's earlier events are void. No later event can depend on void events, so the partitions
can be dropped at any later time: retention can be interrupted anywhere and run again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.archive import Archive
from eventlog.db.query import Op, Pause, Script, completed
from eventlog.errors import EventLogError, EventTooLargeError, LogBusyError, LogCorruptedError
from eventlog.logger import logger
from eventlog.partitions import Partition, drop_partition, ensure_partitions, may_drop, read_partitions, time_before
from eventlog.records import Erased, Operation, ThreadOutline
from eventlog.threads import threads_before
from langgraph.checkpoint.eventlog._arguments import actor_of, duration_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.lifecycle.erase import Eraser, delete_thread
from langgraph.checkpoint.eventlog.lifecycle.rules import Kept, keep
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread

__all__ = ["Retained", "retain"]

#: Threads that are looked for at a time.
PAGE = 500

#: How often dropping a partition is tried while other sessions use the log, and the pauses between tries, in seconds.
DROP_ATTEMPTS = 30
DROP_PAUSE_SECONDS = 0.5


@dataclass(slots=True)
class Retained:
    """The result of dropping old partitions, done or planned."""

    before: datetime | None = None
    """The log's new beginning; None when no partition was old enough."""
    partitions: list[Partition] = field(default_factory=list)
    """The dropped partitions, oldest first."""
    relocated_threads: int = 0
    """Threads that lost history. Their latest state was relocated where it was older."""
    dropped_threads: int = 0
    """Idle threads that were erased (`drop_idle`)."""
    archives: list[Path] = field(default_factory=list)
    """Paths of the archive files. A dry run writes none."""


def retain(
    context: Context,
    serde: SerializerProtocol,
    history: Any,
    drop_idle: bool,
    archive: str | Path | None,
    dry_run: bool,
    actor: Any,
    on_thread: OnThread | None,
) -> Script[Retained]:
    """Drop the partitions that ended longer ago than `history`."""
    statements = context.statements
    age = duration_of(history, "history")
    archived = None if archive is None else Archive(Path(archive), statements)
    operation = Operation("retain", actor_of(actor))
    retained = Retained()
    if not dry_run:
        yield lambda: may_drop(statements)
        yield lambda: ensure_partitions(statements)
    cut = yield lambda: time_before(statements, age)
    there = yield lambda: read_partitions(statements, exact=False)
    old = [partition for partition in there.partitions if partition.ends_at <= cut]
    if not old:
        return retained
    retained.before = old[-1].ends_at

    cutter = _Cutter(
        context, Eraser(context, serde), operation, old[-1].ends_at, drop_idle, dry_run, on_thread, retained
    )
    yield from cutter.cut_threads()
    if cutter.failed:
        # A failing thread must not prevent cutting the others. But no partition is dropped that it may need.
        names = ", ".join(map(repr, list(cutter.failed)[:10]))
        raise LogCorruptedError(
            f"{len(cutter.failed)} threads could not be relocated, so no partition was dropped: {names}. Prune "
            "each to see its error, or delete it"
        ) from next(iter(cutter.failed.values()))

    for partition in old:
        if not dry_run:
            digest = None
            if archived is not None:
                written = yield partial(archived.write, partition)
                if written is not None:
                    path, digest = written
                    retained.archives.append(path)
            partition = yield from _drop(context, partition, operation.actor, digest, cutter)
        retained.partitions.append(partition)
    return retained


@dataclass(slots=True)
class _Cutter:
    """Cuts threads at the beginning of the oldest partition that stays."""

    context: Context
    eraser: Eraser
    operation: Operation
    before: datetime
    drop_idle: bool
    dry_run: bool
    on_thread: OnThread | None
    retained: Retained
    failed: dict[str, EventLogError] = field(default_factory=dict)
    """By thread: why it could not be cut."""

    def cut_threads(self) -> Script[None]:
        """Cut all threads that still have to be."""
        after = ""
        while True:
            page = yield partial(threads_before, self.context.statements, self.before, after, PAGE)
            for thread_id, is_pending in page:
                if is_pending:
                    try:
                        yield from self._cut_thread(thread_id)
                    except (LogCorruptedError, EventTooLargeError) as exc:
                        self.failed[thread_id] = exc
            if len(page) < PAGE:
                break
            after = page[-1][0]

    def _cut_thread(self, thread_id: str) -> Script[None]:
        before, is_idle = self.before, False

        def choose(_: Eraser, thread: ThreadOutline) -> Op[Kept]:
            nonlocal is_idle
            is_idle = self.drop_idle and not any(
                stream.tip.active_at is not None and stream.tip.active_at >= before for stream in thread.values()
            )
            return completed({ns: set() for ns in thread} if is_idle else keep(thread, last=1, since=before))

        erased: Erased | None = None
        if self.drop_idle and not self.dry_run:
            erased = yield lambda: delete_thread(
                self.context, thread_id, self.operation, idle_since=before, expired_before=before
            )
            is_idle = erased is not None
        if erased is None:
            erased = yield lambda: self.eraser.erase(
                thread_id, choose, self.operation, expired_before=before, dry_run=self.dry_run
            )
        self.retained.dropped_threads += is_idle
        self.retained.relocated_threads += not is_idle
        if self.on_thread is not None:
            self.on_thread(erased)


def _drop(
    context: Context, partition: Partition, actor: str | None, archive: bytes | None, cutter: _Cutter
) -> Script[Partition]:
    attempts = 1
    while True:
        try:
            rows, size = yield lambda: drop_partition(context.statements, partition.name, actor, archive)
        except LogBusyError:
            if attempts == DROP_ATTEMPTS:
                raise
            attempts += 1
            yield Pause(DROP_PAUSE_SECONDS)
            # A thread that had ended may have been started again meanwhile.
            yield from cutter.cut_threads()
        else:
            logger.info("eventlog.partition_dropped", partition=partition.name, rows=rows, bytes=size, actor=actor)
            return partition._replace(rows=rows, bytes=size, is_exact=True)
