"""One checkpoint: its changes, conversation and state, and its tasks' writes, interrupts and errors."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from eventlog.db.query import Op, Query
from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from eventlog.format.contents import Serialized, Version
from eventlog.read import read_writes
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog import Inspected, StoredChannel
from langgraph.checkpoint.eventlog.viewing.changes import changes
from langgraph.checkpoint.eventlog.viewing.channels import finished_tasks, next_nodes, node_of
from langgraph.checkpoint.eventlog.viewing.deltas import delta_channels, delta_values
from langgraph.checkpoint.eventlog.viewing.outcomes import errors_of, interrupts_of
from langgraph.checkpoint.eventlog.viewing.plain import Limits, Tree, as_tree
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.texts import iso
from langgraph.checkpoint.eventlog.viewing.timeline import known_thread
from langgraph.checkpoint.eventlog.viewing.values import WHOLE, Shown, of_value, show_all, shown
from projections.event import is_internal

__all__ = ["channel", "checkpoint", "checkpoint_at"]

#: Writes that are shown, and children that are named.
MOST_WRITES = 500
MOST_FOLLOWING = 100

#: Metadata that the document has by itself.
_OWN = ("step", "source", "run_id")


class _Neighbours(NamedTuple):
    """The checkpoints around a checkpoint."""

    previous: str | None
    following: list[str]


async def _inspect(reader: Reader, thread_id: str, checkpoint_id: str, ns: str, channel: str | None) -> Inspected:
    """A checkpoint as it is stored. Raises ThreadNotFoundError, InvalidInputError as `checkpoint`."""
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}
    found: Inspected | None = await reader.run("inspect", config)
    if found is None:
        await known_thread(reader, thread_id)
        raise ThreadNotFoundError(
            f"thread {thread_id!r} has no checkpoint {checkpoint_id!r}"
            + (f" in namespace {ns!r}" if ns else "")
            + ": it was erased, or never existed"
        )
    if channel is not None and channel not in found.channels:
        names = ", ".join(map(repr, list(found.channels)[:20])) or "none"
        raise InvalidInputError(f"channel: the checkpoint has no value in channel {channel!r}; it has: {names}")
    return found


async def channel(
    reader: Reader,
    thread_id: str,
    checkpoint_id: str,
    name: str,
    *,
    ns: str = "",
    limits: Limits | None = None,
) -> dict[str, Any]:
    """One channel of a checkpoint. Arguments and errors as for `checkpoint`; without limits, all of it."""
    found = await _inspect(reader, thread_id, checkpoint_id, ns, name)
    stored = found.channels[name]
    value = await reader.in_thread(lambda: shown(reader, stored.value, limits))
    return {
        "thread_id": found.thread_id,
        "ns": found.checkpoint_ns,
        "checkpoint_id": found.checkpoint_id,
        "channel": _channel(name, stored, value),
    }


async def checkpoint(
    reader: Reader,
    thread_id: str,
    checkpoint_id: str,
    *,
    ns: str = "",
    channel: str | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """One checkpoint, with the changes since its parent.

    Args:
        ns: its namespace.
        channel: show this channel's value in full, up to `WHOLE`; `channel_rest` names a command for the rest.
        limits: limits of the shown values.

    Raises:
        ThreadNotFoundError: when it does not exist.
        InvalidInputError: when it has no value in the channel.
    """
    found = await _inspect(reader, thread_id, checkpoint_id, ns, channel)
    parent: Inspected | None = None
    stream = Stream(found.thread_id, found.checkpoint_ns)
    neighbours = await reader.ask(lambda: _neighbours(reader, stream, found.checkpoint_id, found.parent_checkpoint_id))
    if neighbours.previous is not None:
        named = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": neighbours.previous}
        try:
            parent = await reader.run("inspect", {"configurable": named})
        except LogCorruptedError:
            # The checkpoint itself can be shown; the page of its parent shows the parent's error.
            parent = None
    about = await reader.ask(lambda: _events(reader, stream, found.checkpoint_id)) if found.writes else {}
    named = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": found.checkpoint_id}
    missing = delta_channels(reader.load(found.metadata), found.channels)
    deltas = await delta_values(reader, {"configurable": named}, missing)
    document: dict[str, Any] = await reader.in_thread(
        lambda: _document(reader, found, parent, neighbours, about, deltas, limits or Limits(), channel)
    )
    return document


async def checkpoint_at(
    reader: Reader, thread_id: str, time: datetime, *, ns: str, limits: Limits
) -> dict[str, Any] | None:
    """The checkpoint that a run would have found at a time, as it was then; None when there was none.

    Raises HistoryErasedError, ThreadNotFoundError as `EventLog.state_at`.
    """
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}
    found: Inspected | None = await reader.run("inspect", config, at=time)
    if found is None:
        return None
    stream = Stream(found.thread_id, found.checkpoint_ns)
    about = await reader.ask(lambda: _events(reader, stream, found.checkpoint_id)) if found.writes else {}
    neighbours = _Neighbours(found.parent_checkpoint_id, [])
    document: dict[str, Any] = await reader.in_thread(
        lambda: _document(reader, found, None, neighbours, about, {}, limits, at=time)
    )
    return document


def _neighbours(reader: Reader, stream: Stream, checkpoint_id: str, parent_id: str | None) -> Op[_Neighbours]:
    params = {**stream._asdict(), "checkpoint_id": checkpoint_id, "parent_id": parent_id, "rows": MOST_FOLLOWING + 1}
    rows = yield Query(reader.statements["viewing_neighbours"], params)
    ids = [id_ for id_, is_parent in rows if not is_parent]
    return _Neighbours(parent_id if any(is_parent for _, is_parent in rows) else None, ids)


class _Event(NamedTuple):
    """The time of writes, and their actor."""

    time: datetime
    actor: str | None


def _events(reader: Reader, stream: Stream, checkpoint_id: str) -> Op[dict[int, _Event]]:
    """The events that wrote to a checkpoint, by number."""
    found = {}
    for stored in (yield from read_writes(reader.statements, stream, checkpoint_id)):
        written = reader.states.codec.decode_writes(stored.body, stream.describe_event(stored.seq))
        found[stored.seq] = _Event(stored.saved_at, written.actor)
    return found


def _document(
    reader: Reader,
    found: Inspected,
    parent: Inspected | None,
    neighbours: _Neighbours,
    about: Mapping[int, _Event],
    deltas: Mapping[str, Any],
    limits: Limits,
    channel: str | None = None,
    at: datetime | None = None,
) -> dict[str, Any]:
    """The document of a checkpoint as it is stored. It decodes values, which takes a while if they are large.

    Args:
        at: the checkpoint is shown as it was at this time, without changes.
    """
    metadata = _mapping(as_tree(reader.load(found.metadata), limits.fresh()))
    before = {} if parent is None else parent.channels
    of_messages = limits.fresh()
    # The most important parts first: if the limits are reached, the later parts are cut.
    changed = changes(reader, before, found.channels, limits) if at is None else []
    show: dict[str, Callable[[Limits], Shown]] = {
        name: partial(_shown, reader, each.value, name == channel) for name, each in found.channels.items()
    }
    show |= {name: partial(of_value, value) for name, value in deltas.items()}
    values, messages = show_all(show, limits, of_messages)
    writes = _writes(reader, found, about, limits)
    finished = finished_tasks({**write, "task_path": write["path"]} for write in writes)
    internal = {name: value.tree for name, value in values.items() if is_internal(name)}
    return {
        "thread_id": found.thread_id,
        "ns": found.checkpoint_ns,
        "checkpoint_id": found.checkpoint_id,
        "parent_id": found.parent_checkpoint_id,
        "seq": found.seq,
        "time": iso(found.saved_at),
        "at": iso(at),
        **{name: metadata.get(name) for name in _OWN},
        "actor": metadata["actor"] if isinstance(metadata.get("actor"), str) else None,
        "metadata": metadata,
        "state_bytes": found.state_bytes,
        "replayed": found.replayed,
        "next": next_nodes(internal, finished.values()),
        "has_parent": parent is not None,
        "changes": changed,
        "messages": messages,
        "channels": [
            *(
                _channel(name, each, values[name])
                for name, each in sorted(found.channels.items(), key=lambda item: is_internal(item[0]))
            ),
            *(_replayed(name, found.versions.get(name), values[name]) for name in deltas),
        ],
        "replayed_channels": delta_channels(metadata, found.channels),
        "channel": channel,
        "channel_rest": _rest(found, channel) if channel is not None and values[channel].cut else None,
        "writes": writes[:MOST_WRITES],
        "writes_left_out": max(0, len(writes) - MOST_WRITES),
        "interrupts": interrupts_of(writes, finished),
        "errors": errors_of(writes),
        "config": {
            "configurable": {
                "thread_id": found.thread_id,
                "checkpoint_ns": found.checkpoint_ns,
                "checkpoint_id": found.checkpoint_id,
            }
        },
        "config_python": _config_python(found.thread_id, found.checkpoint_ns, found.checkpoint_id),
        "previous": neighbours.previous,
        "following": neighbours.following[:MOST_FOLLOWING],
    }


def _rest(found: Inspected, channel: str) -> str:
    """The command that writes all of a channel."""
    words = ["eventlog", "show", found.thread_id, found.checkpoint_id, "--channel", channel, "--json"]
    return shlex.join([*words, *(["--ns", found.checkpoint_ns] if found.checkpoint_ns else [])])


def _shown(reader: Reader, value: Serialized, whole: bool, limits: Limits) -> Shown:
    return shown(reader, value, WHOLE.fresh() if whole else limits)


def _channel(name: str, stored: StoredChannel, value: Shown) -> dict[str, Any]:
    return {
        "name": name,
        "type": stored.value.type,
        "bytes": len(stored.value.data),
        "version": None if stored.version is None else str(stored.version),
        "internal": is_internal(name),
        "value": value.tree,
        "cut": value.cut,
        "replayed": False,
    }


def _replayed(name: str, version: Version | None, value: Shown) -> dict[str, Any]:
    """A channel without a stored value at the checkpoint."""
    return {
        "name": name,
        "type": None,
        "bytes": None,
        "version": None if version is None else str(version),
        "internal": False,
        "value": value.tree,
        "cut": value.cut,
        "replayed": True,
    }


def _writes(reader: Reader, found: Inspected, about: Mapping[int, _Event], limits: Limits) -> list[dict[str, Any]]:
    """All writes; those beyond the limit without their values."""
    documents = []
    for number, write in enumerate(found.writes):
        value = shown(reader, write.value, limits) if number < MOST_WRITES else Shown(None, cut=True)
        event = about.get(write.seq)
        documents.append(
            {
                "task_id": write.task_id,
                "node": node_of(write.task_path) or None,
                "path": write.task_path,
                "channel": write.channel,
                "idx": write.idx,
                "value": value.tree,
                "cut": value.cut,
                "bytes": len(write.value.data),
                "actor": None if event is None else event.actor,
                "time": None if event is None else iso(event.time),
            }
        )
    return documents


def _config_python(thread_id: str, ns: str, checkpoint_id: str) -> str:
    """The config that names a checkpoint, as Python."""
    return (
        "config = {\n"
        '    "configurable": {\n'
        f'        "thread_id": {thread_id!r},\n'
        f'        "checkpoint_ns": {ns!r},\n'
        f'        "checkpoint_id": {checkpoint_id!r},\n'
        "    }\n"
        "}\n"
    )


def _mapping(tree: Tree) -> dict[str, Tree]:
    """The tree if it is a mapping, else an empty one: other data may be stored in its place."""
    return tree if isinstance(tree, dict) else {"value": tree}
