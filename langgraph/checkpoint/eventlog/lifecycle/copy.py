"""Copying a thread, or the path to one checkpoint of it, in one transaction and without decoding."""

from __future__ import annotations

import json
from collections.abc import Iterable

from langchain_core.runnables import RunnableConfig

from eventlog.db.query import Op
from eventlog.errors import ThreadExistsError, ThreadNotFoundError
from eventlog.events import Kind
from eventlog.records import Operation, Outline, StreamTip, ThreadOutline, copy_stream, lock_threads, read_outline
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog._arguments import config_of
from langgraph.checkpoint.eventlog._context import Context

__all__ = ["copy_thread", "fork_thread"]


def copy_thread(context: Context, source_id: str, target_id: str, actor: str | None, request: str) -> Op[None]:
    """Copy all of a thread. Run it in one transaction. Errors as `EventLog.copy_thread`.

    Args:
        request: identifies the call, so that a retry after a lost answer is recognised.
    """
    tips = yield from lock_threads(context.statements, [source_id, target_id])
    sources = _sources(tips, source_id)
    operation = Operation("copy_thread", actor, json.dumps({"request": request}))
    if not _is_done(tips, target_id, sources, operation):
        for tip in sources:
            yield from copy_stream(context.statements, tip, target_id, None, operation)


def fork_thread(
    context: Context, source_id: str, target_id: str, checkpoint_id: str | None, actor: str | None, request: str
) -> Op[RunnableConfig]:
    """Copy the path to a checkpoint of the root graph. Run it in one transaction. As `EventLog.fork_thread`."""
    tips = yield from lock_threads(context.statements, [source_id, target_id])
    sources = _sources(tips, source_id)
    thread = yield from read_outline(context.statements, source_id, sources)
    if "" not in thread or not thread[""].checkpoints:
        raise ThreadNotFoundError(f"thread {source_id!r} has no checkpoint in its root graph to fork from")
    if checkpoint_id is None:
        checkpoint_id = max(thread[""].checkpoints)
    elif checkpoint_id not in thread[""].checkpoints:
        raise ThreadNotFoundError(f"thread {source_id!r} has no checkpoint {checkpoint_id!r} in its root graph")
    details = {"request": request, "checkpoint_id": checkpoint_id}
    operation = Operation("fork_thread", actor, json.dumps(details))
    chosen = _chosen(thread, checkpoint_id)
    taken = [tip for tip in sources if tip.checkpoint_ns in chosen]
    if not _is_done(tips, target_id, taken, operation):
        for tip in taken:
            yield from copy_stream(context.statements, tip, target_id, chosen[tip.checkpoint_ns], operation)
    return config_of(Stream(target_id, ""), checkpoint_id)


def _sources(tips: list[StreamTip], source_id: str) -> list[StreamTip]:
    sources = [tip for tip in tips if tip.thread_id == source_id and tip.has_data]
    if not sources:
        raise ThreadNotFoundError(f"thread {source_id!r} has nothing to copy")
    return sources


def _is_done(tips: list[StreamTip], target_id: str, sources: list[StreamTip], operation: Operation) -> bool:
    """Whether the target equals the result of this copy. Raises ThreadExistsError if it has other data."""
    targets = {
        tip.checkpoint_ns: tip.last_operation or {} for tip in tips if tip.thread_id == target_id and tip.has_data
    }
    if not targets:
        return False
    details = json.loads(operation.details_json)
    same = targets.keys() == {tip.checkpoint_ns for tip in sources} and all(
        (found := targets[tip.checkpoint_ns]).get("operation") == operation.name
        and found.get("source") == tip.thread_id
        and found.get("checkpoint_id") == details.get("checkpoint_id")
        and (found.get("request") == details["request"] or found.get("source_digest") == tip.digest.hex())
        for tip in sources
    )
    if not same:
        raise ThreadExistsError(f"thread {target_id!r} has data: delete it first, or choose another id")
    return True


def _chosen(thread: ThreadOutline, checkpoint_id: str) -> dict[str, tuple[list[int], list[str]]]:
    """By namespace, the events and the checkpoints of the path to a checkpoint."""
    path = _with_ancestors(thread[""], [checkpoint_id])
    chosen = {"": _closure(thread[""], path)}
    for ns, outline in thread.items():
        under = {id_ for id_, each in outline.checkpoints.items() if each.root_id in path}
        if ns != "" and under:
            chosen[ns] = _closure(outline, _with_ancestors(outline, under))
    return chosen


def _closure(outline: Outline, ids: set[str]) -> tuple[list[int], list[str]]:
    """The events and checkpoints that some checkpoints need.

    There may be further ones: if a checkpoint was put again under another parent, after a child was saved.
    """
    saved = {event.seq: event.checkpoint_id for event in outline.events if event.kind == Kind.CHECKPOINT_SAVED}
    while True:
        seqs = _events_of(outline, ids)
        needed = {saved[seq] for seq in seqs if seq in saved}
        if needed <= ids:
            return seqs, sorted(ids)
        ids = _with_ancestors(outline, ids | needed)


def _with_ancestors(outline: Outline, ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for id_ in ids:
        next_id: str | None = id_
        while next_id is not None and next_id not in found and next_id in outline.checkpoints:
            found.add(next_id)
            next_id = outline.checkpoints[next_id].parent_id
    return found


def _events_of(outline: Outline, ids: set[str]) -> list[int]:
    """The current events of checkpoints, their writes, and the bases of both."""
    bases = {event.seq: event.base_seq for event in outline.events}
    wanted = {outline.checkpoints[id_].seq for id_ in ids}
    wanted |= {event.seq for event in outline.events if event.kind == Kind.WRITES_SAVED and event.checkpoint_id in ids}
    for seq in list(wanted):
        base = bases[seq]
        while base is not None and base not in wanted:
            wanted.add(base)
            base = bases[base]
    return sorted(wanted)
