"""Maintenance: erase according to the stored retention, make partitions ahead, and seal the log.

Several workers may run it: one is active, the others stand by. A thread is examined and erased in one transaction,
under the locks that appends take, so an append just before is seen. After an interruption the next run continues.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Pause, Script
from eventlog.errors import EventLogError, InvalidInputError, StorageError, ThreadNotFoundError
from eventlog.format.signature import private_key
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions, time_before
from eventlog.records import Erased, Operation, ThreadOutline
from eventlog.retention import (
    ACTIVE,
    Candidate,
    Retention,
    Rules,
    check_may_seal,
    combined,
    hold_maintenance,
    own_retention,
    parse_retention,
    read_retention,
    retention_threads,
)
from eventlog.seals import Seal
from langgraph.checkpoint.eventlog._arguments import actor_of, count_of, stop_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._measure import measure
from langgraph.checkpoint.eventlog.integrity.receipts import make_receipt
from langgraph.checkpoint.eventlog.integrity.seal import seal
from langgraph.checkpoint.eventlog.lifecycle.erase import Eraser, delete_thread
from langgraph.checkpoint.eventlog.lifecycle.pages import OF_ONE_THREAD, each_thread
from langgraph.checkpoint.eventlog.lifecycle.rules import keep
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread, count_thread

__all__ = ["Maintained", "OnRun", "maintain"]

#: How long a worker counts as active without renewing its lease, in seconds. Each thread and each page renews it.
LEASE_SECONDS = 60

#: The longest time between runs.
LONGEST_INTERVAL = timedelta(days=366)


@dataclass(slots=True)
class Maintained:
    """The result of one run of maintenance, done or planned."""

    is_dry_run: bool = False
    """Whether nothing was changed."""
    retention: Retention | None = None
    """The retention that the run began with; None when nothing is to be erased."""
    stood_by_for: str | None = None
    """The other worker that did the work, as host, process and a random number; otherwise None."""
    looked_at: int = 0
    """Threads with data."""
    expired: int = 0
    """Erased threads."""
    pruned: int = 0
    """Threads that lost history."""
    checkpoints: int = 0
    """Erased checkpoints."""
    events: int = 0
    """Erased events."""
    bytes: int = 0
    """Bytes of erased bodies and snapshots, as stored."""
    active: int = 0
    """Threads that were spared because something was appended within 15 minutes."""
    interrupted: int = 0
    """Threads that were spared because an interrupt waits for an answer."""
    failed: dict[str, str] = field(default_factory=dict)
    """Threads that could not be erased, with the reason."""
    is_limited: bool = False
    """Whether `limit` ended the run."""
    is_stopped: bool = False
    """Whether `stop` ended the run."""
    partitions: list[str] = field(default_factory=list)
    """Names of the new partitions."""
    receipts: list[Path] = field(default_factory=list)
    """Paths of the signed receipts."""
    seal: Seal | None = None
    """The seal, if the run sealed the log."""


#: Is called with the result of each run.
OnRun = Callable[[Maintained], None]


class _Outcome(NamedTuple):
    """The result for one thread."""

    erased: Erased | None = None
    left: str | None = None
    """Why it was left, where it was due: "active" or "interrupted"."""
    is_expired: bool = False
    holder: str | None = None
    """Another worker that is active."""
    receipt: str | None = None


def maintain(
    context: Context,
    serde: SerializerProtocol,
    every: Any,
    limit: Any,
    seal_key: Any,
    receipt_key: Any,
    out: Any,
    dry_run: bool,
    actor: Any,
    on_thread: OnThread | None,
    on_run: OnRun | None,
    stop: Any,
) -> Script[Maintained]:
    """Maintain the log once, or again and again. Arguments and errors as of `EventLog.maintain`."""
    if every is not None and not (isinstance(every, timedelta) and timedelta(seconds=1) <= every <= LONGEST_INTERVAL):
        raise InvalidInputError(f"every must be a timedelta of 1 second to 366 days, or None, not {every!r}")
    if every is not None and dry_run:
        raise InvalidInputError("a dry run runs once: leave out every or dry_run")
    if out is not None and seal_key is None and receipt_key is None:
        raise InvalidInputError("out is for signed documents: give seal_key or receipt_key as well, a private key")
    if out is None and receipt_key is not None:
        raise InvalidInputError("receipt_key signs receipts: give out as well, a folder that gets them")
    folder = None if out is None else Path(out)
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InvalidInputError(f"out must be an existing folder that this user can write to, not {str(folder)!r}")
    is_over = stop_of(stop)
    worker = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    sealing, receipting = (None if key is None else private_key(key) for key in (seal_key, receipt_key))
    most = None if limit is None else count_of(limit, "limit")
    while True:
        run = _Run(
            *(context, Eraser(context, serde), worker, most, sealing, receipting, folder),
            *(dry_run, actor_of(actor), on_thread, is_over),
        )
        yield from run.run()
        done = run.done
        if not dry_run:
            yield from measure(context)
            counts = ("looked_at", "expired", "pruned", "events", "bytes", "active", "interrupted", "stood_by_for")
            logger.info(
                "eventlog.maintained", **{name: getattr(done, name) for name in counts}, failed=len(done.failed)
            )
        if on_run is not None:
            on_run(done)
        if every is None or is_over():
            return done
        yield Pause(every.total_seconds(), stop)
        if is_over():
            return done


@dataclass(slots=True)
class _Run:
    """One run."""

    context: Context
    eraser: Eraser
    worker: str
    limit: int | None
    seal_key: Any
    receipt_key: Any
    out: Path | None
    dry_run: bool
    actor: str | None
    on_thread: OnThread | None
    is_over: Callable[[], bool]
    done: Maintained = field(default_factory=Maintained)

    def run(self) -> Script[None]:
        """Do everything that is due."""
        done, statements = self.done, self.context.statements
        done.is_dry_run = self.dry_run
        if self.seal_key is not None and not self.dry_run:
            yield lambda: check_may_seal(statements)
        done.retention = yield lambda: read_retention(statements)
        if not self.dry_run:
            if not (yield from self._hold()):
                return
            done.partitions = yield lambda: ensure_partitions(statements)
        if done.retention is not None:
            yield from self._erase(done.retention)
        if self.dry_run or done.stood_by_for is not None:
            return
        if self.seal_key is not None and not done.is_stopped:
            done.seal = yield from seal(self.context, self.actor, self.seal_key)
            if self.out is not None and done.seal is not None:
                _write(self.out / f"seal-{done.seal.number}.json", done.seal.document or "")
        yield lambda: hold_maintenance(statements, self.worker, 0)

    def _hold(self) -> Script[bool]:
        """Whether this worker is the active one; renews its lease."""
        self.done.stood_by_for = yield lambda: hold_maintenance(self.context.statements, self.worker, LEASE_SECONDS)
        return self.done.stood_by_for is None

    def _erase(self, retention: Retention) -> Script[None]:
        statements = self.context.statements
        now: datetime = yield lambda: time_before(statements, timedelta(0))
        yield from each_thread(
            partial(retention_threads, statements, retention, now),
            lambda thread: self._next(retention, thread, now),
            before_page=None if self.dry_run else self._hold,
        )

    def _next(self, retention: Retention, thread: Candidate, now: datetime) -> Script[bool]:
        """Examine the next thread; returns whether to continue."""
        done = self.done
        if self.is_over():
            done.is_stopped = True
            return False
        if self.limit is not None and done.expired + done.pruned == self.limit:
            done.is_limited = True
            return False
        done.looked_at += 1
        yield from self._look(retention, thread, now)
        return done.stood_by_for is None

    def _look(self, retention: Retention, thread: Candidate, now: datetime) -> Script[None]:
        """Erase the part of one thread that is due."""
        done = self.done
        try:
            own = None if thread.own is None else parse_retention(thread.own)
            rules = combined(retention, own)
            is_idle = rules.idle is not None and thread.active_at < now - rules.idle
            # `has_history` was computed for the log's retention, not for the thread's own.
            may_cut = rules.cuts and (thread.has_history or (own is not None and retention.allow_shorter))
            if not is_idle and not may_cut:
                return
            outcome: _Outcome = yield partial(self._thread, thread.thread_id, rules, now)
        except OF_ONE_THREAD as exc:
            # One failing thread must not prevent erasing the others.
            self._failed(thread.thread_id, exc)
            return
        done.stood_by_for = outcome.holder
        done.active += outcome.left == "active"
        done.interrupted += outcome.left == "interrupted"
        erased = outcome.erased if outcome.erased is not None and outcome.erased.events else None
        if erased is not None:
            done.expired += outcome.is_expired
            done.pruned += not outcome.is_expired
            done.checkpoints += erased.checkpoints
            done.events += erased.events
            done.bytes += erased.bytes
            if not self.dry_run:
                reason = "idle" if outcome.is_expired else "history"
                logger.info("eventlog.erased", operation="maintain", reason=reason, **erased._asdict())
        if outcome.receipt is not None and self.out is not None:
            (*_, last) = json.loads(outcome.receipt)["erasures"]
            # Without the thread's id, which may be personal and must not outlive the thread.
            path = self.out / f"receipt-{last['stream']}-{last['number']}.json"
            _write(path, outcome.receipt)
            done.receipts.append(path)
        if erased is not None and self.on_thread is not None:
            self.on_thread(erased)

    def _failed(self, thread_id: str, exc: EventLogError) -> None:
        self.done.failed[thread_id] = str(exc)
        logger.warning("eventlog.maintain_failed", thread_id=thread_id, reason=str(exc), advice="it was left as it is")

    def _thread(self, thread_id: str, rules: Rules, now: datetime) -> Op[_Outcome]:
        """Examine a thread under its locks, and erase the part that is due. Run it in one transaction."""
        statements = self.context.statements
        if not self.dry_run:
            holder = yield from hold_maintenance(statements, self.worker, LEASE_SECONDS)
            if holder is not None:
                return _Outcome(holder=holder)
        outline = yield from self.eraser.outline(thread_id, dry_run=self.dry_run)
        times = [each.tip.active_at for each in outline.values() if each.tip.active_at is not None]
        if not times:
            # It was just erased: perhaps by an earlier try of this transaction, before its connection was lost.
            return _Outcome(receipt=(yield from self._receipt(thread_id, now)))
        active_at = max(times)
        if active_at >= now - ACTIVE:
            return _Outcome(left="active")
        has_waited = rules.interrupted is not None and active_at < now - rules.interrupted
        if not has_waited and (yield from self.eraser.is_waiting(outline)):
            return _Outcome(left="interrupted")
        started = yield from time_before(statements, timedelta(0))
        is_idle = rules.idle is not None and active_at < now - rules.idle
        if is_idle:
            erased = yield from self._expire(thread_id)
        else:
            erased = yield from self._prune(thread_id, outline, rules, now)
        # In the same transaction, so that the receipt covers just this erasure.
        receipt = yield from self._receipt(thread_id, started if erased.events else now)
        return _Outcome(erased, is_expired=is_idle, receipt=receipt)

    def _receipt(self, thread_id: str, since: datetime) -> Op[str | None]:
        """The receipt of erasures since a time; None when there were none, or no receipt is requested."""
        if self.receipt_key is None or self.dry_run:
            return None
        try:
            statements = self.context.statements
            return (yield from make_receipt(statements, thread_id, self.receipt_key, "retention", since))
        except ThreadNotFoundError:
            return None

    def _expire(self, thread_id: str) -> Op[Erased]:
        if self.dry_run:
            return (yield from count_thread(self.context, thread_id))
        erased = yield from delete_thread(self.context, thread_id, Operation("maintain", self.actor))
        assert erased is not None
        return erased

    def _prune(self, thread_id: str, outline: ThreadOutline, rules: Rules, now: datetime) -> Op[Erased]:
        if not rules.cuts:
            return Erased(thread_id, 0, 0, 0)
        kept = yield from self.eraser.open_ids(outline)
        own = yield from own_retention(self.context.statements, thread_id)
        if own is not None and own.checkpoint_id in outline[""].checkpoints:
            # The checkpoint holds the thread's own retention, which erasing the checkpoint would remove.
            kept[""].add(own.checkpoint_id)
        since = None if rules.history is None else now - rules.history
        kept = keep(outline, last=rules.keep_last or 1, since=since, open_ids=kept)
        details = {"history": None if rules.history is None else str(rules.history), "keep_last": rules.keep_last}
        operation = Operation("maintain", self.actor, json.dumps(details))
        return (yield from self.eraser.cut(thread_id, outline, kept, operation, dry_run=self.dry_run))


def _write(path: Path, document: str) -> None:
    """Write a signed document to a new file. Raises StorageError with the document, which is not made again."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{document}\n")
    except OSError as exc:
        raise StorageError(
            f"{path} was not written: {exc.strerror}. The operation is committed. Keep this document instead: "
            f"{document}"
        ) from exc
