"""Exporting a thread: as one document for a self-contained page, or as a line of JSON for each event."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from typing import Any, TypeVar

from eventlog.errors import ThreadNotFoundError
from langgraph.checkpoint.eventlog import Change
from langgraph.checkpoint.eventlog.viewing.checkpoint import checkpoint
from langgraph.checkpoint.eventlog.viewing.plain import as_tree
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.texts import iso
from langgraph.checkpoint.eventlog.viewing.timeline import known_thread, thread

__all__ = ["export", "export_lines", "export_text", "package_version"]

T = TypeVar("T")

#: The largest numbers of steps and checkpoints on an exported page. The lines of JSON have all.
MOST_STEPS = 2_000
MOST_CHECKPOINTS = 20

#: The number of events with values in memory at a time.
LINES = 10


def package_version() -> str:
    """The version of this package."""
    return metadata.version("langgraph-checkpoint-eventlog")


async def export(reader: Reader, thread_id: str, *, ns: str = "") -> dict[str, Any]:
    """A thread's timeline, oldest first, with the latest checkpoint of each namespace.

    Raises:
        ThreadNotFoundError: when the thread never was.
    """
    document = await thread(reader, thread_id, ns=ns, limit=MOST_STEPS)
    latest = await known_thread(reader, thread_id)
    checkpoints: list[dict[str, Any]] = []
    for namespace, checkpoint_id in sorted(latest.items(), key=lambda item: (item[0] != ns, item[0])):
        if checkpoint_id is not None and len(checkpoints) < MOST_CHECKPOINTS:
            try:
                checkpoints.append(await checkpoint(reader, thread_id, checkpoint_id, ns=namespace))
            except ThreadNotFoundError:
                # It was erased meanwhile.
                continue
    return {
        "thread": document,
        "left_out": document["next"] is not None,
        "checkpoints": checkpoints,
        "exported_at": iso(datetime.now(timezone.utc)),
        "version": package_version(),
    }


async def export_lines(reader: Reader, thread_id: str, *, ns: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """Each event of a thread, oldest first, with its values in full.

    Args:
        ns: only this namespace; None: all.

    Raises:
        ThreadNotFoundError: when the thread never was.
    """
    async for some in _batches(reader, thread_id, ns, _line):
        for line in some:
            yield line


async def export_text(reader: Reader, thread_id: str, *, ns: str | None = None) -> AsyncIterator[str]:
    """The same as text, some lines of JSON at a time."""
    async for some in _batches(reader, thread_id, ns, _text):
        yield "".join(some)


async def _batches(
    reader: Reader, thread_id: str, ns: str | None, make: Callable[[Change], T]
) -> AsyncIterator[list[T]]:
    await known_thread(reader, thread_id, ns)
    arguments = {"checkpoint_ns": ns, "on_undecodable": "show"}
    async for some in reader.batches("changes", thread_id, make=make, size=LINES, **arguments):
        yield some


def _text(change: Change) -> str:
    return json.dumps(_line(change)) + "\n"


def _line(change: Change) -> dict[str, Any]:
    entry = change.entry
    line = {**asdict(entry), "operation": as_tree(entry.operation), "cursor": entry.cursor}
    line |= {"time": iso(entry.time), "relocated_at": iso(entry.relocated_at)}
    line |= {name: list(line[name]) for name in ("channels", "concurrent_with")}
    for channel, value in zip(line["channels"], change.values, strict=False):
        channel["value"] = as_tree(value)
    return line
