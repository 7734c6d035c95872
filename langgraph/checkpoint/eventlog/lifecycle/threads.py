"""What ends or duplicates threads, as scripts: validated first, then one transaction for each thread."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Script, completed
from eventlog.errors import InvalidInputError
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions, time_before
from eventlog.records import Erased, Operation, ThreadOutline, threads_of_runs
from eventlog.streams import text_id
from eventlog.threads import ThreadSummary, idle_threads, latest_threads, summarize_threads
from langgraph.checkpoint.eventlog._arguments import actor_of, count_of, duration_of, ids_of, two_threads
from langgraph.checkpoint.eventlog._operations import Context
from langgraph.checkpoint.eventlog.lifecycle import copy, rules
from langgraph.checkpoint.eventlog.lifecycle.erase import Choose, Eraser, delete_thread
from langgraph.checkpoint.eventlog.lifecycle.rules import Kept

__all__ = ["STRATEGIES", "Lifecycle", "OnThread", "list_threads", "make_partitions"]

STRATEGIES = ("keep_latest", "delete")

#: Told of each thread as it is done.
OnThread = Callable[[Erased], None]

#: Idle threads that are looked for at a time.
PAGE = 200


class Lifecycle:
    """The scripts of a saver with a given serializer. Each validates its arguments first.

    Args:
        context: settings, statements and frames.
        serde: the saver's serializer at the time of the call.
    """

    def __init__(self, context: Context, serde: SerializerProtocol) -> None:
        self._context = context
        self._statements = context.statements
        self._serde = serde

    def delete_thread(self, thread_id: Any, actor: Any) -> Op[None]:
        """Erase a thread: an operation of one statement."""
        operation = Operation("delete_thread", actor_of(actor))
        erased = yield from delete_thread(self._context, text_id(thread_id, "thread_id"), operation)
        assert erased is not None
        self._report(operation.name, erased, None)

    def _delete_threads(self, ids: Sequence[str], operation: Operation, on_thread: OnThread | None) -> Script[None]:
        yield self._ensure_partition
        for id_ in ids:
            erased = yield partial(delete_thread, self._context, id_, operation)
            self._report(operation.name, erased, on_thread)

    def _count_threads(self, ids: list[str], on_thread: OnThread | None) -> Script[None]:
        found = yield lambda: summarize_threads(self._statements, ids)
        sizes = {each.thread_id: (each.events, each.checkpoints, each.bytes) for each in found}
        for id_ in ids:
            self._report("prune", Erased(id_, *sizes.get(id_, (0, 0, 0))), on_thread, dry_run=True)

    def prune(
        self,
        thread_ids: Any,
        strategy: Any,
        keep_last: Any,
        older_than: Any,
        dry_run: bool,
        actor: Any,
        on_thread: OnThread | None,
    ) -> Script[None]:
        """Erase the history of threads."""
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
            if dry_run:
                return self._count_threads(ids, on_thread)
            return self._delete_threads(ids, Operation("prune", actor), on_thread)

        def choose(eraser: Eraser, thread: ThreadOutline) -> Op[Kept]:
            if count is None and age is None:
                return rules.keep_latest(thread)
            open_ids = yield from eraser.open_ids(thread)
            if count is not None:
                return rules.keep_last(thread, count, open_ids)
            assert age is not None
            since = yield from time_before(self._statements, age)
            return rules.keep_younger(thread, since, open_ids)

        details = {"strategy": strategy, "keep_last": count, "older_than": None if age is None else str(age)}
        operation = Operation("prune", actor, json.dumps(details))
        return self._erase(lambda: completed(ids), choose, operation, dry_run, on_thread)

    def delete_for_runs(self, run_ids: Any, dry_run: bool, actor: Any, on_thread: OnThread | None) -> Script[None]:
        """Erase what runs saved."""
        ids = ids_of(run_ids, "run_ids")

        def choose(eraser: Eraser, thread: ThreadOutline) -> Op[Kept]:
            return completed(rules.without_runs(thread, frozenset(ids)))

        return self._erase(
            lambda: threads_of_runs(self._statements, ids),
            choose,
            Operation("delete_for_runs", actor_of(actor), json.dumps({"runs": ids})),
            dry_run,
            on_thread,
        )

    def _erase(
        self,
        find: Callable[[], Op[list[str]]],
        choose: Choose,
        operation: Operation,
        dry_run: bool,
        on_thread: OnThread | None,
    ) -> Script[None]:
        if not dry_run:
            yield self._ensure_partition
        eraser = Eraser(self._context, self._serde)
        for id_ in (yield find):
            erased = yield partial(eraser.erase, id_, choose, operation, dry_run=dry_run)
            self._report(operation.name, erased, on_thread, dry_run=dry_run)

    def copy_thread(self, source_id: Any, target_id: Any, actor: Any) -> Script[None]:
        """Copy a thread."""
        source, target = two_threads(source_id, target_id)
        return self._copy(partial(copy.copy_thread, self._context, source, target, actor_of(actor)))

    def fork_thread(self, source_id: Any, target_id: Any, checkpoint_id: Any, actor: Any) -> Script[RunnableConfig]:
        """Copy the path to a checkpoint."""
        source, target = two_threads(source_id, target_id)
        at = None if checkpoint_id is None else text_id(checkpoint_id, "checkpoint_id")
        return self._copy(partial(copy.fork_thread, self._context, source, target, at, actor_of(actor)))

    def _copy(self, start: Callable[[str], Op[Any]]) -> Script[Any]:
        yield self._ensure_partition
        request = uuid4().hex
        return (yield lambda: start(request))

    def expire(
        self, idle: Any, limit: Any, dry_run: bool, actor: Any, on_thread: OnThread | None
    ) -> Script[list[ThreadSummary]]:
        """Erase threads to which nothing was appended for a time."""
        duration, actor = duration_of(idle, "idle"), actor_of(actor)
        most = None if limit is None else count_of(limit, "limit")
        if not dry_run:
            yield self._ensure_partition
        since = yield lambda: time_before(self._statements, duration)
        expired: list[ThreadSummary] = []
        after = ""
        while most is None or len(expired) < most:
            rows = PAGE if most is None else min(PAGE, most - len(expired))
            page = yield partial(idle_threads, self._statements, since, after, rows)
            for thread in page:
                after = thread.thread_id
                erased = Erased(thread.thread_id, thread.events, thread.checkpoints, thread.bytes)
                if not dry_run:
                    operation = Operation("expire", actor)
                    erased = yield partial(delete_thread, self._context, thread.thread_id, operation, idle_since=since)
                    if erased is None:
                        continue  # somebody has just gone on with it
                expired.append(thread)
                self._report("expire", erased, on_thread, dry_run=dry_run)
            if len(page) < rows:
                break
        return expired

    # --- what the scripts have in common

    def _ensure_partition(self) -> Op[list[str]]:
        """Make the partition for now. Inside of a transaction it would be too late."""
        return ensure_partitions(self._statements, self._context.settings, 0)

    @staticmethod
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
    return (yield from ensure_partitions(context.statements, context.settings, ahead))
