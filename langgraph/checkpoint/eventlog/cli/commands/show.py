"""`show`: one checkpoint, with the values of its channels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Any

from rich.text import Text
from typer import Argument, Context, Option

from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import Inspected
from langgraph.checkpoint.eventlog.cli.finding import find_checkpoint, latest_or_named
from langgraph.checkpoint.eventlog.cli.options import Allow, Full, Namespace, Trust
from langgraph.checkpoint.eventlog.cli.render.channels import (
    ERROR,
    INTERRUPT,
    SPECIAL,
    is_internal,
    next_nodes,
    node_of,
)
from langgraph.checkpoint.eventlog.cli.render.decoding import TYPE, UNDECODABLE
from langgraph.checkpoint.eventlog.cli.render.messages import as_conversation
from langgraph.checkpoint.eventlog.cli.render.output import plural, printable, size, when
from langgraph.checkpoint.eventlog.cli.render.plain import Tree, as_tree
from langgraph.checkpoint.eventlog.cli.render.values import Line, inline, lines_of, named_lines, one_line
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["show"]


def show(
    ctx: Context,
    thread_id: Annotated[
        str, Argument(metavar="THREAD", help="The thread's id, or the id of a checkpoint of any thread.")
    ],
    checkpoint_id: Annotated[
        str | None,
        Argument(metavar="CHECKPOINT", help="The checkpoint's id, or the beginning of it. By default the latest."),
    ] = None,
    ns: Namespace = None,
    channel: Annotated[str | None, Option(metavar="NAME", help="Show only this channel's value.")] = None,
    full: Full = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Show a checkpoint: its origin, the values of its channels, and its pending writes.

    Values of classes that are not on the list of safe types are shown as data; their code does not run.
    """
    session = Session.of(ctx)
    with session.open_to_look(allow, trust=trust) as log:
        if checkpoint_id is None:
            name = latest_or_named(log, thread_id, ns)
        else:
            name = find_checkpoint(log, thread_id, checkpoint_id, ns)
        found = log.inspect({"configurable": name._asdict()})
        if found is None:
            raise ThreadNotFoundError(f"checkpoint {name.checkpoint_id!r} was erased during this command")
        if channel is not None and channel not in found.channels:
            names = ", ".join(map(repr, found.channels)) or "none"
            raise InvalidInputError(f"--channel: the checkpoint has no value in channel {channel!r}; it has: {names}")
        if session.as_json:
            session.document(**(_channel_fields(found, channel) if channel is not None else _fields(found)))
        elif channel is not None:
            session.lines(lines_of(_value(found, found.channels[channel].value), full=full))
        else:
            session.lines(_lines(found, full))


def _value(found: Inspected, value: Any) -> Tree:
    try:
        return as_tree(found.load(value))
    except LogCorruptedError as exc:
        # Of types that the log itself serializes; the command's own serializer does not raise.
        return as_tree({TYPE: UNDECODABLE, "serialized_as": value.type, "why": str(exc), "data": value.data})


def _metadata(found: Inspected) -> dict[str, Tree]:
    metadata = _value(found, found.metadata)
    return metadata if isinstance(metadata, dict) else {"metadata": metadata}


def _next(found: Inspected) -> list[str]:
    return next_nodes({name: _value(found, each.value) for name, each in found.channels.items() if is_internal(name)})


# --- for machines


def _fields(found: Inspected) -> dict[str, Any]:
    metadata = _metadata(found)
    names = ("thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id", "seq", "recorded_at")
    return {
        **{name: getattr(found, name) for name in (*names, "keyframe_seq", "replayed", "state_bytes")},
        **{name: metadata.get(name) for name in ("step", "source", "run_id")},
        "next": _next(found),
        "interrupts": _interrupts(found),
        "metadata": _value(found, found.metadata),
        "fields": _value(found, found.fields),
        "channels": {name: _channel_fields(found, name) for name in found.channels},
        "channel_versions": as_tree(found.versions),
        "versions_seen": as_tree(found.versions_seen),
        "writes": [
            {
                **{name: getattr(write, name) for name in ("task_id", "task_path", "idx", "channel")},
                **_value_fields(found, write.value),
            }
            for write in found.writes
        ],
    }


def _channel_fields(found: Inspected, name: str) -> dict[str, Any]:
    version, value = found.channels[name]
    return {"version": as_tree(version), **_value_fields(found, value)}


def _value_fields(found: Inspected, value: Any) -> dict[str, Any]:
    return {"type": value.type, "bytes": len(value.data), "value": _value(found, value)}


def _interrupts(found: Inspected) -> list[Tree]:
    """The interrupts of tasks that have not finished: they wait for an answer."""
    done = {write.task_id for write in found.writes if write.idx >= 0}
    waiting = [each for each in found.writes if each.channel == INTERRUPT and each.task_id not in done]
    values = [_value(found, each.value) for each in waiting]
    return [each for value in values for each in (value if isinstance(value, list) else [value])]


# --- for people


def _lines(found: Inspected, full: bool) -> Iterator[Line]:
    yield from _identity(found)
    internal = [name for name in found.channels if is_internal(name)]
    for name in found.channels:
        if name not in internal or full:
            yield from _channel(found, name, full)
    # LangGraph's `DeltaChannel`s may have no value in this checkpoint.
    counters = _metadata(found).get("counters_since_delta_snapshot")
    replayed = [name for name in counters if name not in found.channels] if isinstance(counters, dict) else []
    notes = (("LangGraph's own", [] if full else internal), ("Replayed from earlier writes, not stored here", replayed))
    for note, names in notes:
        if names:
            yield Line(0, Text())
            yield Line(0, Text(f"{note}: {', '.join(map(one_line, names))}", "dim"))
    yield from _pending(found, full)


def _identity(found: Inspected) -> Iterator[Line]:
    metadata, fields = _metadata(found), _value(found, found.fields)
    step = [inline(metadata[key]) for key in ("step", "source") if metadata.get(key) is not None]
    about: dict[str, Any] = {
        "checkpoint": found.checkpoint_id,
        "thread": found.thread_id,
        "namespace": found.checkpoint_ns or None,
        "parent": found.parent_checkpoint_id or "none",
        "saved": f"{when(found.recorded_at)} UTC, event {found.seq:,}",
        "made": fields.get("ts") if isinstance(fields, dict) else None,
        "step": " ".join(each for each in step if each is not None),
        "run": metadata.get("run_id"),
        "state": f"{size(found.state_bytes)} in {plural(len(found.channels), 'channel')}, from "
        f"{plural(found.replayed, 'event')} since event {found.keyframe_seq:,}",
        "next": ", ".join(_next(found)) or "nothing",
    }
    # Two loops: no key of the metadata can replace a line of the checkpoint's own.
    for name, each in about.items():
        if isinstance(each, str) and each:
            yield Line(0, Text.assemble((f"{name:<10}  ", "bold"), printable(each)))
    for name, each in metadata.items():
        if name not in ("step", "source", "run_id", "parents"):
            yield Line(0, Text.assemble((f"{one_line(name):<10}  ", "bold"), inline(each) or "…"))


def _channel(found: Inspected, name: str, full: bool) -> Iterator[Line]:
    version, value = found.channels[name]
    tree = _value(found, value)
    messages = as_conversation(tree) if isinstance(tree, list) else None
    about = [plural(len(messages), "message")] if messages else []
    # LangGraph's versions are padded numbers with a random part behind the point.
    short = str(version).partition(".")[0].lstrip("0") or str(version)
    about += [size(len(value.data)), f"version {one_line(short)}"]
    yield Line(0, Text())
    yield Line(0, Text.assemble((one_line(name), "bold underline"), (f"  {', '.join(about)}", "dim")))
    yield from lines_of(tree, full=full, indent=1)


def _pending(found: Inspected, full: bool) -> Iterator[Line]:
    if found.writes:
        yield Line(0, Text())
        yield Line(0, Text("Pending writes", "bold underline"))
    for (task_id, path), writes in groupby(found.writes, key=lambda write: (write.task_id, write.task_path)):
        name, *rest = [printable(each) for each in (node_of(path), task_id) if each]
        yield Line(1, Text.assemble(("task ", "dim"), (name, "bold"), (f"  {'  '.join(rest)}", "dim")))
        for write in writes:
            style = {ERROR: "bold red", INTERRUPT: "bold yellow"}.get(write.channel, "")
            heading = Text(f"{one_line(SPECIAL.get(write.channel, write.channel))}:", style)
            about = f"  {size(len(write.value.data))}"
            yield from named_lines(heading, _value(found, write.value), full=full, indent=2, about=about)
