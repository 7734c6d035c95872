"""What ends or duplicates threads, as scripts: validated first, then one transaction for each thread."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
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
from eventlog.statistics import ThreadSummary, idle_threads, latest_threads, summarize_threads
from eventlog.streams import text_id
from langgraph.checkpoint.eventlog._arguments import actor_of, count_of, duration_of, ids_of, two_threads
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.lifecycle import copy, rules
from langgraph.checkpoint.eventlog.lifecycle.erase import Eraser, delete_thread
from langgraph.checkpoint.eventlog.lifecycle.rules import Kept

__all__ = [
    "STRATEGIES",
    "OnThread",
    "copy_thread",
    "delete_for_runs",
    "delete_one",
    "expire",
    "fork_thread",
    "list_threads",
    "make_partitions",
    "prune",
]

STRATEGIES = ("keep_latest", "delete")

#: Told of each thread as it is done.
OnThread = Callable[[Erased], None]

#: Idle threads that are looked for at a time.
PAGE = 200


def delete_one(context: Context, thread_id: Any, actor: Any) -> Op[None]:
    """Erase a thread: an operation of one statement."""
    operation = Operation("delete_thread", actor_of(actor))
    erased = yield from delete_thread(context, text_id(thread_id, "thread_id"), operation)
    assert erased is not None
    _report(operation.name, erased, None)


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
    if strategy not in STRATEGIES:
        raise InvalidInputError(f"unknown strategy {strategy!r}: it must be one of {', '.join(STRATEGIES)}")
    if keep_last is not None and older_than is not None:
        raise InvalidInputError("keep_last and older_than contradict each other: give one of them")
    if strategy != "keep_latest" and (keep_last is not None or older_than is not None):
        raise InvalidInputError(f"strategy {strategy!r} keeps nothing: leave out keep_last and older_than")
    count = None if keep_last is None else count_of(keep_last, "keep_last")
    age = None if older_than is None else duration_of(older_than, "older_than")
    if strategy == "delete":
        delete = partial(delete_thread, context, operation=Operation("prune", actor))
        erase = partial(_count, context) if dry_run else delete
        return _erase(context, lambda: completed(ids), erase, "prune", dry_run, on_thread)

    def choose(eraser: Eraser, thread: ThreadOutline) -> Op[Kept]:
        if count is None and age is None:
            return rules.keep(thread, last=1)
        open_ids = yield from eraser.open_ids(thread)
        since = None if age is None else (yield from time_before(context.statements, age))
        return rules.keep(thread, last=count or 0, since=since, open_ids=open_ids)

    details = {"strategy": strategy, "keep_last": count, "older_than": None if age is None else str(age)}
    operation = Operation("prune", actor, json.dumps(details))
    erase = partial(Eraser(context, serde).erase, choose=choose, operation=operation, dry_run=dry_run)
    return _erase(context, lambda: completed(ids), erase, "prune", dry_run, on_thread)


def delete_for_runs(
    context: Context, serde: SerializerProtocol, run_ids: Any, dry_run: bool, actor: Any, on_thread: OnThread | None
) -> Script[None]:
    """Erase what runs saved. Validates at once; returns the script to run."""
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
        # Inside of a thread's transaction it would be too late to make one.
        yield partial(ensure_partitions, context.statements)
    for id_ in (yield find):
        erased = yield partial(erase, id_)
        _report(name, erased, on_thread, dry_run=dry_run)


def _count(context: Context, thread_id: str) -> Op[Erased]:
    """What erasing all of a thread would erase."""
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
                    continue  # A run has just gone on with it.
            expired.append(thread)
            _report("expire", erased, on_thread, dry_run=dry_run)
        if len(page) < rows:
            break
    return expired


def _report(operation: str, erased: Erased, on_thread: OnThread | None, *, dry_run: bool = False) -> None:
    if not dry_run and erased.events:
        logger.info("eventlog.erased", operation=operation, **erased._asdict())
    if on_thread is not None:
        on_thread(erased)


def list_threads(context: Context, thread_ids: Any, limit: Any, before: Any) -> Op[list[ThreadSummary]]:
    """Threads with their sizes. Raises InvalidInputError."""
    rows = count_of(limit, "limit")
    at = before.active_at if isinstance(before, ThreadSummary) else before
    if before is not None and not (isinstance(at, datetime) and at.tzinfo is not None):
        raise InvalidInputError("before must be a datetime with a time zone, or a thread of the page before")
    if thread_ids is not None:
        return (yield from summarize_threads(context.statements, ids_of(thread_ids, "thread_ids")))
    return (yield from latest_threads(context.statements, rows, before))


def make_partitions(context: Context, ahead: Any) -> Op[list[str]]:
    """Make partitions. Raises InvalidInputError, MissingGrantError."""
    if ahead is not None and (isinstance(ahead, bool) or not isinstance(ahead, int) or not 0 <= ahead <= 1000):
        raise InvalidInputError(f"ahead must be an int from 0 to 1000, not {ahead!r}")
    return (yield from ensure_partitions(context.statements, ahead))
