"""A thread as a timeline: its checkpoints as steps, each with the writes of its tasks, and the records between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eventlog.db.query import Op, Query
from eventlog.errors import LogCorruptedError, ThreadNotFoundError
from eventlog.events import StoredEvent
from eventlog.format.contents import WritesSaved
from eventlog.streams import Stream, storable, text_id
from langgraph.checkpoint.eventlog import HistoryEntry
from langgraph.checkpoint.eventlog.viewing.branches import Descent, Node, descent_of, read_nodes
from langgraph.checkpoint.eventlog.viewing.channels import CONTROL, ERROR, INTERRUPT, NULL_TASK, RESUME, node_of
from langgraph.checkpoint.eventlog.viewing.following import heads
from langgraph.checkpoint.eventlog.viewing.plain import Limits, as_tree
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.texts import iso, operation_text
from langgraph.checkpoint.eventlog.viewing.threads import entries_of
from projections.event import is_internal
from projections.history import KINDS

__all__ = ["deletion_of", "known_thread", "thread"]

#: Steps on a page.
PAGE = 100

#: Events of writes that are shown on a page: a step may have thousands of tasks.
MOST_WRITES = 5_000

#: The bytes of their bodies that are read.
MOST_WRITES_BYTES = 32 * 1024 * 1024

#: All but writes, which belong to their checkpoints.
_SHOWN_KINDS = [kind for kind in KINDS if kind != "writes"]

#: Namespaces and branches that are listed.
MOST_NAMESPACES = 200
MOST_BRANCHES = 200

#: Channels that are named of one step, and of one task.
MOST_CHANNELS = 50


async def thread(
    reader: Reader,
    thread_id: str,
    *,
    ns: str = "",
    cursor: str | None = None,
    newest: bool = False,
    limit: int = PAGE,
) -> dict[str, Any]:
    """A page of the timeline of one namespace of a thread.

    Args:
        ns: the namespace; empty for the root graph.
        cursor: `next` of the page before.
        newest: the last step first.
        limit: about so many steps.

    Raises:
        ThreadNotFoundError: when the thread never existed, or has no such namespace.
        InvalidInputError: for an invalid id or cursor.
    """
    # The head is read first, so that events that arrive during the other reads are not missed.
    head = (await heads(reader, [text_id(thread_id, "thread_id")])).get(thread_id)
    namespaces = await known_thread(reader, thread_id, ns)
    entries, following = await _page(reader, thread_id, ns, cursor or None, newest=newest, limit=limit)
    stream = Stream(thread_id, ns)
    nodes = await reader.ask(lambda: read_nodes(reader.statements, stream))
    descent = await reader.in_thread(lambda: descent_of(nodes))
    summaries = await reader.run("threads", [thread_id])
    if not summaries:
        raise ThreadNotFoundError(f"thread {thread_id!r} was erased while it was read")
    (summary,) = await entries_of(reader, summaries)
    writes, left_out = await reader.ask(lambda: _writes(reader, stream, entries))
    steps = await reader.in_thread(lambda: steps_of(reader, entries, writes, descent, namespaces))
    branches = descent.branches
    listed = dict(list(namespaces.items())[:MOST_NAMESPACES])
    return {
        "thread_id": thread_id,
        "ns": ns,
        "status": summary["status"],
        "newest": newest,
        "deleted": await deletion_of(reader, thread_id) if summary["status"] == "deleted" else None,
        "namespaces": [{"ns": each, "latest": latest} for each, latest in listed.items()],
        "namespaces_left_out": len(namespaces) - len(listed),
        "summary": summary,
        "steps": steps,
        "tasks_left_out": left_out,
        "branches": [each._asdict() for each in branches[:MOST_BRANCHES]],
        "branches_left_out": max(0, len(branches) - MOST_BRANCHES),
        "next": following,
        "head": None if head is None else str(head),
    }


async def known_thread(reader: Reader, thread_id: str, ns: str | None = None) -> dict[str, str | None]:
    """The namespaces of a thread, each with its latest checkpoint.

    Raises ThreadNotFoundError when the thread never existed, or has no namespace of this name.
    """
    thread_id = text_id(thread_id, "thread_id")
    found: dict[str, str | None] = await reader.run("namespaces", thread_id)
    if not found:
        raise ThreadNotFoundError(f"thread {thread_id!r} does not exist, and the log has no record of it")
    if ns is not None and storable(ns, "ns") not in found:
        # A thread may have only namespaces of subgraphs: its root still has a page.
        if ns == "":
            return {"": None, **found}
        raise ThreadNotFoundError(f"thread {thread_id!r} has no namespace {ns!r}")
    return found


async def deletion_of(reader: Reader, thread_id: str) -> dict[str, Any] | None:
    """The time and user of a thread's last deletion; None when the log has no record of one."""
    for kinds in (["deleted"], ["erased"]):
        found = await reader.run("history", thread_id, kinds=kinds, newest_first=True, limit=1, on_undecodable="show")
        for entry in found:
            says = entry.operation or {}
            return {
                "time": iso(entry.time),
                "by": _text(says.get("by")),
                "actor": _text(says.get("actor")),
                "operation": _text(says.get("operation")),
            }
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# --- a page of events


async def _page(
    reader: Reader, thread_id: str, ns: str, cursor: str | None, *, newest: bool, limit: int
) -> tuple[list[HistoryEntry], str | None]:
    """Checkpoints and records in the order of the reading, and the cursor after them; None at the end."""
    entries: list[HistoryEntry] = await reader.run(
        "history",
        thread_id,
        checkpoint_ns=ns,
        after=cursor,
        limit=limit + 1,
        newest_first=newest,
        kinds=_SHOWN_KINDS,
        on_undecodable="show",
    )
    return entries[:limit], entries[limit - 1].cursor if len(entries) > limit else None


def _writes(reader: Reader, stream: Stream, entries: Sequence[HistoryEntry]) -> Op[tuple[list[StoredEvent], bool]]:
    """The writes to the checkpoints of a page, and whether some are omitted.

    They may have been committed before their checkpoint, or long after.
    """
    ids = {each.checkpoint_id for each in entries if each.kind == "checkpoint" and each.checkpoint_id is not None}
    if not ids:
        return [], False
    # For a relocated checkpoint this is the time when it was first saved.
    since = min(each.time for each in entries)
    params = {**stream._asdict(), "ids": sorted(ids), "since": since, "rows": MOST_WRITES + 1}
    rows = yield Query(reader.statements["viewing_writes"], {**params, "bytes": MOST_WRITES_BYTES})
    found = [StoredEvent(*row) for *row, _ in rows[:MOST_WRITES]]
    return found, bool(rows) and rows[0][-1] > len(found)


# --- steps


def steps_of(
    reader: Reader,
    entries: Sequence[HistoryEntry],
    writes: Sequence[StoredEvent],
    descent: Descent,
    namespaces: Iterable[str],
) -> list[dict[str, Any]]:
    """The steps and records of one namespace's events, in their order.

    Args:
        entries: checkpoints and records.
        writes: to these checkpoints, oldest first.
        namespaces: of the thread: those that ran in a task are its step's `subgraphs`.
    """
    steps = [_step(each, descent) if _is_step(each) else _other(each) for each in entries]
    # If a checkpoint was put again, its writes are shown with its last event on the page.
    by_id = {step["checkpoint_id"]: step for step in sorted(steps, key=lambda step: step["seq"]) if "tasks" in step}
    by_task = _by_task(namespaces)
    tasks: dict[tuple[str, str], dict[str, Any]] = {}
    for stored in writes:
        step = by_id.get(stored.checkpoint_id)
        if step is None:
            continue
        try:
            written = reader.states.codec.decode_writes(stored.body, stored.stream.describe_event(stored.seq))
        except LogCorruptedError as exc:
            step["undecodable"].append({"seq": stored.seq, "time": iso(stored.saved_at), "error": str(exc)})
            continue
        key = stored.checkpoint_id, written.task_id
        if (task := tasks.get(key)) is None:
            task = tasks[key] = _task(stored, written, descent.nodes.get(stored.checkpoint_id))
            step["tasks"].append(task)
            found = by_task.get(written.task_id, ())
            step["subgraphs"] += [{"ns": ns, "node": node} for ns, node in found]
        _add_writes(task, stored, written)
    return steps


def _is_step(entry: HistoryEntry) -> bool:
    return entry.kind == "checkpoint" and entry.error is None


def _other(entry: HistoryEntry) -> dict[str, Any]:
    if entry.error is None:
        return _record(entry)
    return {
        "kind": "undecodable",
        "seq": entry.seq,
        "time": iso(entry.time),
        "checkpoint_id": entry.checkpoint_id,
        "what": entry.kind,
        "error": entry.error,
    }


def _step(entry: HistoryEntry, descent: Descent) -> dict[str, Any]:
    id_ = entry.checkpoint_id or ""
    parent = descent.nodes.get(entry.parent_id or "")
    after_parent = None
    if parent is not None:
        after_parent = round((entry.time - parent.first_at).total_seconds() * 1000, 3)
    shown = [each for each in entry.channels if not is_internal(each.channel)]
    return {
        "kind": "step",
        "checkpoint_id": entry.checkpoint_id,
        "parent_id": entry.parent_id,
        "step": entry.step,
        "source": entry.source,
        "run_id": entry.run_id,
        "actor": entry.actor,
        "time": iso(entry.time),
        "relocated_at": iso(entry.relocated_at),
        "saved_ms_after_parent": after_parent,
        "fork": entry.fork,
        "concurrent_with": list(entry.concurrent_with),
        "repeat": entry.repeat,
        "branch": descent.branch_of.get(id_, 0),
        "is_tip": id_ in descent.nodes and not descent.children.get(id_),
        "changes": [asdict(each) for each in shown[:MOST_CHANNELS]],
        "changes_left_out": max(0, len(shown) - MOST_CHANNELS),
        "bytes": entry.stored_bytes,
        "seq": entry.seq,
        "tasks": [],
        "subgraphs": [],
        "undecodable": [],
    }


def _task(stored: StoredEvent, written: WritesSaved, node: Node | None) -> dict[str, Any]:
    """A task without its writes. They come in one or several events, interrupts first."""
    after = None if node is None else (stored.saved_at - node.first_at).total_seconds() * 1000
    return {
        "task_id": written.task_id,
        "node": None if written.task_id == NULL_TASK else node_of(written.task_path) or None,
        "path": written.task_path,
        "time": iso(stored.saved_at),
        # Writes may be committed before their checkpoint: then the times do not show the task's duration.
        "ms_after_checkpoint": None if after is None or after < 0 else round(after, 3),
        "channels": [],
        "writes": 0,
        "bytes": 0,
        "interrupt": False,
        "answered": False,
        "error": False,
        "finished": False,
        "actor": None,
    }


def _add_writes(task: dict[str, Any], stored: StoredEvent, written: WritesSaved) -> None:
    names = list(dict.fromkeys(write.channel for write in written.writes))
    shown = [name for name in names if not is_internal(name) and name not in task["channels"]]
    task["channels"] += shown[: MOST_CHANNELS - len(task["channels"])]
    task["writes"] += len(written.writes)
    task["bytes"] += len(stored.body)
    task["interrupt"] = task["interrupt"] or INTERRUPT in names
    task["answered"] = task["answered"] or RESUME in names
    task["error"] = task["error"] or ERROR in names
    is_output = written.task_id != NULL_TASK and any(name not in CONTROL for name in names)
    task["finished"] = task["finished"] or is_output
    task["actor"] = written.actor or task["actor"]


def _record(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "kind": "record",
        "what": entry.kind,
        "seq": entry.seq,
        "time": iso(entry.time),
        "text": operation_text(entry.kind, entry.operation),
        "operation": as_tree(entry.operation or {}, Limits()),
    }


def _by_task(namespaces: Iterable[str]) -> Mapping[str, list[tuple[str, str]]]:
    """Namespaces, each with its node, by their task. A namespace ends in ``node:task``, after the enclosing ones."""
    found: dict[str, list[tuple[str, str]]] = {}
    for ns in namespaces:
        parts = ns.split("|")
        # From the second call of a subgraph in one task on, a number follows.
        while len(parts) > 1 and parts[-1].isdigit():
            parts.pop()
        node, colon, task_id = parts[-1].partition(":")
        if node and colon:
            found.setdefault(task_id, []).append((ns, node))
    return found
