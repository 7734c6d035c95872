"""Pruning the history of all threads: a strict limit of its age, or of each thread's number of checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Script
from eventlog.errors import InvalidInputError
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions, time_before
from eventlog.records import Erased
from eventlog.retention import Candidate, history_threads
from langgraph.checkpoint.eventlog._arguments import stop_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.lifecycle.pages import OF_ONE_THREAD, each_thread
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread, Pruning, report

__all__ = ["Pruned", "prune_all"]


@dataclass(slots=True)
class Pruned:
    """The result of pruning all threads, done or planned."""

    is_dry_run: bool = False
    """Whether nothing was changed."""
    looked_at: int = 0
    """Threads with data."""
    pruned: int = 0
    """Threads that lost history."""
    checkpoints: int = 0
    """Erased checkpoints."""
    events: int = 0
    """Erased events."""
    bytes: int = 0
    """Bytes of erased bodies and snapshots, as stored."""
    failed: dict[str, str] = field(default_factory=dict)
    """Threads that could not be pruned, with the reason."""
    is_stopped: bool = False
    """Whether `stop` ended the call. Call it again to continue."""


def prune_all(
    context: Context,
    serde: SerializerProtocol,
    keep_last: Any,
    older_than: Any,
    dry_run: bool,
    actor: Any,
    on_thread: OnThread | None,
    stop: Any,
) -> Script[Pruned]:
    """Erase the history of all threads. Validates at once; returns the script to run."""
    if keep_last is None and older_than is None:
        raise InvalidInputError("give older_than or keep_last, to choose the history to erase")
    pruning = Pruning.parse(context, serde, keep_last, older_than, actor)
    return _Run(context, pruning, dry_run, on_thread, stop_of(stop)).run()


@dataclass(slots=True)
class _Run:
    """One run."""

    context: Context
    pruning: Pruning
    dry_run: bool
    on_thread: OnThread | None
    is_over: Callable[[], bool]
    done: Pruned = field(default_factory=Pruned)

    def run(self) -> Script[Pruned]:
        statements, age = self.context.statements, self.pruning.older_than
        self.done.is_dry_run = self.dry_run
        if not self.dry_run:
            # Within a thread's transaction a missing partition could not be made any more.
            yield partial(ensure_partitions, statements)
        since: datetime | None = None
        if age is not None:
            since = yield partial(time_before, statements, age)

        def find(after: str, limit: int) -> Op[list[Candidate]]:
            return history_threads(statements, self.pruning.keep_last or 0, since, after, limit)

        yield from each_thread(find, self._next)
        return self.done

    def _next(self, thread: Candidate) -> Script[bool]:
        """Prune the next thread; returns whether to go on."""
        done = self.done
        if self.is_over():
            done.is_stopped = True
            return False
        done.looked_at += 1
        if not thread.has_history:
            return True
        try:
            erased: Erased = yield partial(self.pruning.erase, thread.thread_id, dry_run=self.dry_run)
        except OF_ONE_THREAD as exc:
            # One failing thread must not prevent pruning the others.
            done.failed[thread.thread_id] = str(exc)
            logger.warning(
                "eventlog.prune_failed", thread_id=thread.thread_id, reason=str(exc), advice="it was left as it is"
            )
            return True
        if erased.events:
            done.pruned += 1
            done.checkpoints += erased.checkpoints
            done.events += erased.events
            done.bytes += erased.bytes
            report("prune", erased, self.on_thread, dry_run=self.dry_run)
        return True
