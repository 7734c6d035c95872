"""`show`: one checkpoint, with the values of its channels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Any

from rich.text import Text
from typer import Argument, Context, Option

from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from eventlog.format.strict import TYPE
from langgraph.checkpoint.eventlog import Inspected
from langgraph.checkpoint.eventlog.cli.finding import find_checkpoint, latest_or_named
from langgraph.checkpoint.eventlog.cli.options import Allow, Full, Namespace, Trust
from langgraph.checkpoint.eventlog.cli.render.channels import ERROR, INTERRUPT, SPECIAL, next_nodes, node_of
from langgraph.checkpoint.eventlog.cli.render.decoding import UNDECODABLE
from langgraph.checkpoint.eventlog.cli.render.messages import as_conversation
from langgraph.checkpoint.eventlog.cli.render.output import plural, printable, size, when
from langgraph.checkpoint.eventlog.cli.render.plain import Tree, as_tree
from langgraph.checkpoint.eventlog.cli.render.values import Line, lines_of, named_lines, one_line, section
from langgraph.checkpoint.eventlog.cli.session import Session
from projections.event import is_internal

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
        if channel is None:
            document = _document(found)
            lines = _lines(document, full)
        elif channel in found.channels:
            document = _channel_fields(found, channel)
            lines = lines_of(document["value"], full=full)
        else:
            names = ", ".join(map(repr, found.channels)) or "none"
            raise InvalidInputError(f"--channel: the checkpoint has no value in channel {channel!r}; it has: {names}")
        session.document(**document)
        session.lines(lines)


# --- for machines


def _document(found: Inspected) -> dict[str, Any]:
    metadata = _mapping(_value(found, found.metadata))
    channels = {name: _channel_fields(found, name) for name in found.channels}
    writes = [{**write._asdict(), **_value_fields(found, write.value)} for write in found.writes]
    names = ("thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id", "seq", "recorded_at")
    return {
        **{name: getattr(found, name) for name in (*names, "keyframe_seq", "replayed", "state_bytes")},
        **{name: metadata.get(name) for name in ("step", "source", "run_id")},
        "next": next_nodes({name: each["value"] for name, each in channels.items() if is_internal(name)}),
        "interrupts": _interrupts(writes),
        "metadata": metadata,
        "fields": _mapping(_value(found, found.fields)),
        "channels": channels,
        "channel_versions": as_tree(found.versions),
        "versions_seen": as_tree(found.versions_seen),
        "writes": writes,
    }


def _channel_fields(found: Inspected, name: str) -> dict[str, Any]:
    version, value = found.channels[name]
    return {"version": as_tree(version), **_value_fields(found, value)}


def _value_fields(found: Inspected, value: Any) -> dict[str, Any]:
    return {"type": value.type, "bytes": len(value.data), "value": _value(found, value)}


def _value(found: Inspected, value: Any) -> Tree:
    try:
        return as_tree(found.load(value))
    except LogCorruptedError as exc:
        # Of types that the log itself serializes; the command's own serializer does not raise.
        return as_tree({TYPE: UNDECODABLE, "serialized_as": value.type, "why": str(exc), "data": value.data})


def _mapping(tree: Tree) -> dict[str, Tree]:
    """A mapping as it should be, whatever is stored instead."""
    return tree if isinstance(tree, dict) else {"value": tree}


def _interrupts(writes: list[dict[str, Any]]) -> list[Tree]:
    """The interrupts of tasks that have not finished: they wait for an answer."""
    done = {write["task_id"] for write in writes if write["idx"] >= 0}
    waiting = [each["value"] for each in writes if each["channel"] == INTERRUPT and each["task_id"] not in done]
    return [each for value in waiting for each in (value if isinstance(value, list) else [value])]


# --- for people


def _lines(document: dict[str, Any], full: bool) -> Iterator[Line]:
    yield from _identity(document, full)
    channels = document["channels"]
    for name, channel in channels.items():
        if full or not is_internal(name):
            yield from _channel(name, channel, full)
    # LangGraph's `DeltaChannel`s may have no value in this checkpoint.
    counters = document["metadata"].get("counters_since_delta_snapshot")
    notes = {
        "LangGraph's own": [] if full else filter(is_internal, channels),
        "Replayed from earlier writes, not stored here": counters.keys() - channels
        if isinstance(counters, dict)
        else [],
    }
    for note, names in notes.items():
        if listed := ", ".join(map(one_line, names)):
            yield Line(0, Text())
            yield Line(0, Text(f"{note}: {listed}", "dim"))
    yield from _pending(document["writes"], full)


def _identity(document: dict[str, Any], full: bool) -> Iterator[Line]:
    about = {
        "checkpoint": document["checkpoint_id"],
        "thread": document["thread_id"],
        "namespace": document["checkpoint_ns"],
        "parent": document["parent_checkpoint_id"] or "none",
        "saved": f"{when(document['recorded_at'])} UTC, event {document['seq']:,}",
        "made": document["fields"].get("ts"),
        "step": " ".join(str(document[key]) for key in ("step", "source") if document[key] is not None),
        "run": document["run_id"],
        "state": f"{size(document['state_bytes'])} in {plural(len(document['channels']), 'channel')}, from "
        f"{plural(document['replayed'], 'event')} since event {document['keyframe_seq']:,}",
        "next": ", ".join(document["next"]) or "nothing",
    }
    # Two loops: no key of the metadata can replace a line of the checkpoint's own.
    for name, each in about.items():
        if each:
            yield Line(0, Text.assemble((f"{name:<10}  ", "bold"), printable(str(each))))
    for name, each in document["metadata"].items():
        if name not in ("step", "source", "run_id", "parents"):
            yield from named_lines(Text(f"{one_line(name):<10} ", "bold"), each, full=full, indent=0)


def _channel(name: str, channel: dict[str, Any], full: bool) -> Iterator[Line]:
    tree, version = channel["value"], str(channel["version"])
    messages = as_conversation(tree) if isinstance(tree, list) else None
    count = f"{plural(len(messages), 'message')}, " if messages else ""
    # LangGraph's versions are padded numbers with a random part behind the point.
    short = one_line(version.partition(".")[0].lstrip("0") or version)
    yield from section(name, f"{count}{size(channel['bytes'])}, version {short}")
    yield from lines_of(tree, full=full, indent=1)


def _pending(pending: list[dict[str, Any]], full: bool) -> Iterator[Line]:
    if pending:
        yield from section("Pending writes")
    for (task_id, path), writes in groupby(pending, key=lambda write: (write["task_id"], write["task_path"])):
        name, *rest = [printable(each) for each in (node_of(path), task_id) if each]
        yield Line(1, Text.assemble(("task ", "dim"), (name, "bold"), (f"  {'  '.join(rest)}", "dim")))
        for write in writes:
            channel = write["channel"]
            style = {ERROR: "bold red", INTERRUPT: "bold yellow"}.get(channel, "")
            heading = Text(f"{one_line(SPECIAL.get(channel, channel))}:", style)
            yield from named_lines(heading, write["value"], full=full, indent=2, about=f"  {size(write['bytes'])}")
