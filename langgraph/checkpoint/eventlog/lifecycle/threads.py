"""Scripts that erase or copy threads: validation first, then one transaction for each thread."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import MakeOp, Op, Script, completed
from eventlog.errors import InvalidInputError
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions, time_before
from eventlog.records import Erased, Operation, ThreadOutline, threads_of_runs
from eventlog.streams import text_id
from eventlog.threads import (
    SORTS,
    ThreadSelection,
    ThreadSummary,
    idle_threads,
    list_threads,
    select_threads,
    summarize_threads,
)
from langgraph.checkpoint.eventlog._arguments import (
    actor_of,
    count_of,
    duration_of,
    ids_of,
    one_of,
    time_of,
    two_threads,
)
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.lifecycle import copy, rules
from langgraph.checkpoint.eventlog.lifecycle.erase import Eraser, delete_thread
from langgraph.checkpoint.eventlog.lifecycle.rules import Kept
from projections.metadata import filter_json

__all__ = [
    "STRATEGIES",
    "OnThread",
    "Pruning",
    "copy_thread",
    "count_thread",
    "delete_for_runs",
    "delete_one",
    "expire",
    "fork_thread",
    "make_partitions",
    "prune",
    "report",
    "threads",
]

STRATEGIES = ("keep_latest", "delete")
#: Names of strategies beside the documented ones: LangGraph's server sends one that its library does not document.
_SERVER_NAMES = {"delete_all": "delete"}

#: Is called for each thread when it is done.
OnThread = Callable[[Erased], None]

#: Idle threads that are looked for at a time.
PAGE = 200


def delete_one(context: Context, thread_id: Any, actor: Any) -> Op[None]:
    """Erase a thread: an operation of one statement."""
    operation = Operation("delete_thread", actor_of(actor))
    erased = yield from delete_thread(context, text_id(thread_id, "thread_id"), operation)
    assert erased is not None
    report(operation.name, erased, None)


def prune(
    context: Context,
    serde: SerializerProtocol,
    thread_ids: Any,
    strategy: Any,
    keep_last: Any,
    older_than: Any,
    dry_run: bool,
    actor: Any,
    on_thread: OnThread | None,
) -> Script[None]:
    """Erase the history of threads. Validates at once; returns the script to run."""
    ids = ids_of(thread_ids, "thread_ids")
    actor = actor_of(actor)
    if isinstance(strategy, str):
        strategy = _SERVER_NAMES.get(strategy, strategy)
    if strategy not in STRATEGIES:
        raise InvalidInputError(f"unknown strategy {strategy!r}: it must be one of {', '.join(STRATEGIES)}")
    if strategy != "keep_latest" and (keep_last is not None or older_than is not None):
        raise InvalidInputError(f"strategy {strategy!r} deletes all: leave out keep_last and older_than")
    if strategy == "delete":
        delete = partial(delete_thread, context, operation=Operation("prune", actor))
        erase = partial(count_thread, context) if dry_run else delete
        return _erase(context, lambda: completed(ids), erase, "prune", dry_run, on_thread)
    pruning = Pruning.parse(context, serde, keep_last, older_than, actor)
    return _erase(context, lambda: completed(ids), partial(pruning.erase, dry_run=dry_run), "prune", dry_run, on_thread)


@dataclass(frozen=True, slots=True)
class Pruning:
    """The history of a thread to erase: all but the latest checkpoints, or by number or age."""

    context: Context
    eraser: Eraser
    keep_last: int | None
    older_than: timedelta | None
    operation: Operation

    @classmethod
    def parse(
        cls, context: Context, serde: SerializerProtocol, keep_last: Any, older_than: Any, actor: str | None
    ) -> Pruning:
        """From a caller's arguments. Raises InvalidInputError."""
        if keep_last is not None and older_than is not None:
            raise InvalidInputError("keep_last and older_than contradict each other: give one of them")
        count = None if keep_last is None else count_of(keep_last, "keep_last")
        age = None if older_than is None else duration_of(older_than, "older_than")
        age_text = None if age is None else str(age)
        details = {"strategy": "keep_latest", "keep_last": count, "older_than": age_text}
        operation = Operation("prune", actor_of(actor), json.dumps(details))
        return cls(context, Eraser(context, serde), count, age, operation)

    def erase(self, thread_id: str, *, dry_run: bool) -> Op[Erased]:
        """Erase the history of a thread. Run it in one transaction."""
        return self.eraser.erase(thread_id, self._choose, self.operation, dry_run=dry_run)

    def _choose(self, eraser: Eraser, thread: ThreadOutline) -> Op[Kept]:
        count, age = self.keep_last, self.older_than
        if count is None and age is None:
            return rules.keep(thread, last=1)
        open_ids = yield from eraser.open_ids(thread)
        since = None if age is None else (yield from time_before(self.context.statements, age))
        return rules.keep(thread, last=count or 0, since=since, open_ids=open_ids)


def delete_for_runs(
    context: Context, serde: SerializerProtocol, run_ids: Any, dry_run: bool, actor: Any, on_thread: OnThread | None
) -> Script[None]:
    """Erase the checkpoints that runs saved. Validates at once; returns the script to run."""
    ids = ids_of(run_ids, "run_ids")
    operation = Operation("delete_for_runs", actor_of(actor), json.dumps({"runs": ids}))

    def choose(_: Eraser, thread: ThreadOutline) -> Op[Kept]:
        return completed(rules.without_runs(thread, frozenset(ids)))

    find = partial(threads_of_runs, context.statements, ids)
    erase = partial(Eraser(context, serde).erase, choose=choose, operation=operation, dry_run=dry_run)
    return _erase(context, find, erase, "delete_for_runs", dry_run, on_thread)


def _erase(
    context: Context,
    find: MakeOp[list[str]],
    erase: Callable[[str], Op[Erased | None]],
    name: str,
    dry_run: bool,
    on_thread: OnThread | None,
) -> Script[None]:
    """Erase a part or all of each thread that is found."""
    if not dry_run:
        # Within a thread's transaction a missing partition could not be made any more.
        yield partial(ensure_partitions, context.statements)
    for id_ in (yield find):
        erased = yield partial(erase, id_)
        report(name, erased, on_thread, dry_run=dry_run)


def count_thread(context: Context, thread_id: str) -> Op[Erased]:
    """The amounts that deleting a thread would erase."""
    found = yield from summarize_threads(context.statements, [thread_id])
    return Erased(thread_id, *((found[0].events, found[0].checkpoints, found[0].bytes) if found else (0, 0, 0)))


def copy_thread(context: Context, source_id: Any, target_id: Any, actor: Any) -> Script[None]:
    """Copy a thread."""
    source, target = two_threads(source_id, target_id)
    copying = partial(copy.copy_thread, context, source, target, actor_of(actor), uuid4().hex)
    yield partial(ensure_partitions, context.statements)
    yield copying


def fork_thread(
    context: Context, source_id: Any, target_id: Any, checkpoint_id: Any, actor: Any
) -> Script[RunnableConfig]:
    """Copy the path to a checkpoint."""
    source, target = two_threads(source_id, target_id)
    at = None if checkpoint_id is None else text_id(checkpoint_id, "checkpoint_id")
    copying = partial(copy.fork_thread, context, source, target, at, actor_of(actor), uuid4().hex)
    yield partial(ensure_partitions, context.statements)
    config: RunnableConfig = yield copying
    return config


def expire(
    context: Context, idle: Any, limit: Any, dry_run: bool, actor: Any, on_thread: OnThread | None
) -> Script[list[ThreadSummary]]:
    """Erase threads to which nothing was appended for a time."""
    duration, operation = duration_of(idle, "idle"), Operation("expire", actor_of(actor))
    most = None if limit is None else count_of(limit, "limit")
    if not dry_run:
        yield partial(ensure_partitions, context.statements)
    since = yield lambda: time_before(context.statements, duration)
    expired: list[ThreadSummary] = []
    after = ""
    while most is None or len(expired) < most:
        rows = PAGE if most is None else min(PAGE, most - len(expired))
        page = yield partial(idle_threads, context.statements, since, after, rows)
        for thread in page:
            after = thread.thread_id
            erased = Erased(thread.thread_id, thread.events, thread.checkpoints, thread.bytes)
            if not dry_run:
                erased = yield partial(delete_thread, context, thread.thread_id, operation, idle_since=since)
                if erased is None:
                    continue  # A run has just continued it.
            expired.append(thread)
            report("expire", erased, on_thread, dry_run=dry_run)
        if len(page) < rows:
            break
    return expired


def report(operation: str, erased: Erased, on_thread: OnThread | None, *, dry_run: bool = False) -> None:
    """Report a thread of which something was erased, or would be."""
    if not dry_run and erased.events:
        logger.info("eventlog.erased", operation=operation, **erased._asdict())
    if on_thread is not None:
        on_thread(erased)


def threads(
    context: Context, thread_ids: Any, filter: Any, since: Any, sort: Any, limit: Any, before: Any
) -> Op[list[ThreadSummary]]:
    """Threads with their sizes. Raises InvalidInputError."""
    rows, sort = count_of(limit, "limit"), one_of(sort, "sort", *SORTS)
    selection = ThreadSelection(filter_json(filter), None if since is None else time_of(since, "since"))
    if sort == "activity":
        at = before.active_at if isinstance(before, ThreadSummary) else before
        if before is not None:
            time_of(at, "before", ", or a thread of the page before")
    elif not (before is None or isinstance(before, ThreadSummary)):
        raise InvalidInputError(
            f"before must be a thread of the page before where the order is by {sort}, not {type(before).__name__}"
        )
    if thread_ids is not None:
        return (yield from select_threads(context.statements, selection, ids_of(thread_ids, "thread_ids")))
    return (yield from list_threads(context.statements, selection, sort, rows, before))


def make_partitions(context: Context, ahead: Any) -> Op[list[str]]:
    """Make partitions. Raises InvalidInputError, MissingGrantError."""
    if ahead is not None and (isinstance(ahead, bool) or not isinstance(ahead, int) or not 0 <= ahead <= 1000):
        raise InvalidInputError(f"ahead must be an int from 0 to 1000, not {ahead!r}")
    return (yield from ensure_partitions(context.statements, ahead))
