"""`show`: one checkpoint, with what its channels hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.text import Text

from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import EventLog, Inspected, StoredWrite
from langgraph.checkpoint.eventlog.cli.finding import checkpoint_of_thread, checkpoint_or_thread
from langgraph.checkpoint.eventlog.cli.render.decoding import TYPE, UNDECODABLE
from langgraph.checkpoint.eventlog.cli.render.messages import as_conversation
from langgraph.checkpoint.eventlog.cli.render.output import Output, plural, printable, size, when
from langgraph.checkpoint.eventlog.cli.render.plain import Tree, as_json, as_tree
from langgraph.checkpoint.eventlog.cli.render.values import Line, inline, lines_of, shown
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["Allow", "Full", "Namespace", "Trust", "is_internal", "node_of", "register"]

Namespace = Annotated[
    str | None,
    typer.Option("--ns", metavar="NAMESPACE", show_default=False, help="A subgraph's namespace; '' is the root graph."),
]
Full = Annotated[bool, typer.Option("--full", help="Show long values in full.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="MODULE:CLASS",
        show_default=False,
        help="Load values of this class too, which runs its code. May be repeated.",
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Load values of any class that the data names, which runs its code.")
]

#: Channels that LangGraph keeps for itself.
START, TASKS, BRANCH, JOIN = "__start__", "__pregel_tasks", "branch:to:", "join:"

INTERRUPT, ERROR, RESUME = "__interrupt__", "__error__", "__resume__"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(show)


def show(
    ctx: typer.Context,
    thread_id: Annotated[
        str,
        typer.Argument(
            metavar="THREAD", help="The thread's id, or the id of a checkpoint of any thread.", show_default=False
        ),
    ],
    checkpoint_id: Annotated[
        str | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The checkpoint's id, or the beginning of it. By default the latest.",
            show_default=False,
        ),
    ] = None,
    ns: Namespace = None,
    channel: Annotated[
        str | None,
        typer.Option("--channel", metavar="NAME", show_default=False, help="Show only this channel's value."),
    ] = None,
    full: Full = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Show a checkpoint: its origin, the values of its channels, and its pending writes.

    Values of classes that are not on the list of safe types are shown as data; their code does not run.
    """
    session = Session.of(ctx)
    with session.open_to_look(allow or (), trust=trust) as log:
        found = _read(log, thread_id, checkpoint_id, ns)
        if channel is not None and channel not in found.channels:
            names = ", ".join(map(repr, found.channels)) or "none"
            raise InvalidInputError(f"--channel: the checkpoint has no value in channel {channel!r}; it has: {names}")
        if session.as_json:
            session.output.document(**(_channel_json(found, channel) if channel is not None else _json(found)))
        elif channel is not None:
            session.output.lines(lines_of(_value(found, found.channels[channel].value), full=full))
        else:
            _show(session.output, found, full)


def _read(log: EventLog, thread_id: str, checkpoint_id: str | None, ns: str | None) -> Inspected:
    if checkpoint_id is None:
        name = checkpoint_or_thread(log, thread_id, ns)
    else:
        name = checkpoint_of_thread(log, thread_id, checkpoint_id, ns)
    found = log.inspect({"configurable": name._asdict()})
    if found is None:
        raise ThreadNotFoundError(f"checkpoint {name.checkpoint_id!r} was erased during this command")
    return found


def _value(found: Inspected, value: Any) -> Tree:
    try:
        return as_tree(found.load(value))
    except LogCorruptedError as exc:
        # Of what the log itself serializes; the command's own serializer does not raise.
        return {TYPE: UNDECODABLE, "serialized_as": value.type, "why": str(exc), "data": value.data}


# --- for machines


def _json(found: Inspected) -> dict[str, Any]:
    metadata, fields = _value(found, found.metadata), _value(found, found.fields)
    return {
        "thread_id": found.thread_id,
        "checkpoint_ns": found.checkpoint_ns,
        "checkpoint_id": found.checkpoint_id,
        "parent_checkpoint_id": found.parent_checkpoint_id,
        "seq": found.seq,
        "recorded_at": found.recorded_at,
        "keyframe_seq": found.keyframe_seq,
        "replayed": found.replayed,
        "state_bytes": found.state_bytes,
        **{
            key: as_json(metadata.get(key)) if isinstance(metadata, dict) else None
            for key in ("step", "source", "run_id")
        },
        "next": _next(found),
        "interrupts": [as_json(each) for each in _interrupts(found)],
        "metadata": as_json(metadata),
        "fields": as_json(fields),
        "channels": {name: _channel_json(found, name) for name in found.channels},
        "channel_versions": as_json(as_tree(found.versions)),
        "versions_seen": as_json(as_tree(found.versions_seen)),
        "writes": [
            {
                "task_id": write.task_id,
                "task_path": write.task_path,
                "idx": write.idx,
                "channel": write.channel,
                "type": write.value.type,
                "bytes": len(write.value.data),
                "value": as_json(_value(found, write.value)),
            }
            for write in found.writes
        ],
    }


def _channel_json(found: Inspected, name: str) -> dict[str, Any]:
    version, value = found.channels[name]
    return {
        "version": as_json(version),
        "type": value.type,
        "bytes": len(value.data),
        "value": as_json(_value(found, value)),
    }


# --- for people


def _show(output: Output, found: Inspected, full: bool) -> None:
    output.lines(_identity(found))
    internal = [name for name in found.channels if is_internal(name)]
    for name in found.channels:
        if name not in internal or full:
            output.lines(_channel(found, name, full))
    if internal and not full:
        output.lines([Line(0, Text()), Line(0, Text(f"LangGraph's own: {', '.join(map(shown, internal))}", "dim"))])
    if replayed := _replayed(found):
        names = ", ".join(map(shown, replayed))
        output.lines([Line(0, Text()), Line(0, Text(f"Replayed from earlier writes, not stored here: {names}", "dim"))])
    output.lines(_pending(found, full))


def _replayed(found: Inspected) -> list[str]:
    """LangGraph's `DeltaChannel`s whose value is not in this checkpoint."""
    metadata = _value(found, found.metadata)
    counters = metadata.get("counters_since_delta_snapshot") if isinstance(metadata, dict) else None
    return [name for name in counters or () if isinstance(name, str) and name not in found.channels]


def _identity(found: Inspected) -> Iterator[Line]:
    metadata, fields = _value(found, found.metadata), _value(found, found.fields)
    metadata = metadata if isinstance(metadata, dict) else {"metadata": metadata}
    others = {key: each for key, each in metadata.items() if key not in ("step", "source", "run_id", "parents")}
    about = {
        "checkpoint": found.checkpoint_id,
        "thread": found.thread_id,
        "namespace": found.checkpoint_ns or None,
        "parent": found.parent_checkpoint_id or "none",
        "saved": f"{when(found.recorded_at)} UTC, event {found.seq:,}",
        "made": fields.get("ts") if isinstance(fields, dict) else None,
        "step": " ".join(
            each for key in ("step", "source") if (each := inline(metadata.get(key))) not in (None, "None")
        ),
        "run": metadata.get("run_id"),
        "state": f"{size(found.state_bytes)} in {plural(len(found.channels), 'channel')}, from "
        f"{plural(found.replayed, 'event')} since event {found.keyframe_seq:,}",
        "next": ", ".join(_next(found)) or "nothing",
    }
    for name, each in about.items():
        if isinstance(each, str) and each:
            yield Line(0, Text.assemble((f"{name:<12}", "bold"), printable(each)))
    for key, each in others.items():
        text = inline(each)
        name = f"{shown(str(key)):<12}" if len(str(key)) < 12 else f"{shown(str(key))}  "
        yield Line(0, Text.assemble((name, "bold"), "…" if text is None else text))


def _channel(found: Inspected, name: str, full: bool) -> Iterator[Line]:
    version, value = found.channels[name]
    tree = _value(found, value)
    messages = as_conversation(tree)
    about = [plural(len(messages), "message")] if messages else []
    about += [size(len(value.data)), f"version {_short(version)}"]
    yield Line(0, Text())
    yield Line(0, Text.assemble((shown(name), "bold underline"), (f"  {', '.join(about)}", "dim")))
    yield from lines_of(tree, full=full, indent=1)


def _short(version: Any) -> str:
    """LangGraph's versions are padded numbers with a random part behind the point."""
    text = str(version)
    return shown(text.partition(".")[0].lstrip("0") or text)


def _pending(found: Inspected, full: bool) -> Iterator[Line]:
    if found.writes:
        yield Line(0, Text())
        yield Line(0, Text("Pending writes", "bold underline"))
    for (task_id, path), group in groupby(found.writes, key=lambda write: (write.task_id, write.task_path)):
        writes = list(group)
        about = [printable(each) for each in (node_of(path), task_id) if each]
        yield Line(1, Text.assemble(("task ", "dim"), (about[0], "bold"), (f"  {'  '.join(about[1:])}", "dim")))
        for write in writes:
            yield from _write(found, write, full)


def _write(found: Inspected, write: StoredWrite, full: bool) -> Iterator[Line]:
    style = {ERROR: "bold red", INTERRUPT: "bold yellow"}.get(write.channel, "")
    name = {ERROR: "error", INTERRUPT: "interrupt", RESUME: "resume"}.get(write.channel, write.channel)
    tree = _value(found, write.value)
    heading = Text(f"{shown(name)}:", style)
    if (text := inline(tree)) is not None:
        yield Line(2, heading.append(f" {text}"))
        return
    yield Line(2, heading.append(f"  {size(len(write.value.data))}", "dim"))
    yield from lines_of(tree, full=full, indent=3)


# --- what LangGraph would do next


def is_internal(channel: str) -> bool:
    """Whether a channel is LangGraph's own."""
    return channel.startswith(("__", BRANCH, JOIN))


def node_of(path: str) -> str:
    """The node that a task runs, where its path says it; else the path."""
    kind, _, name = path.partition(", ")
    return name if kind == "~__pregel_pull" else path


def _next(found: Inspected) -> list[str]:
    """The nodes that run next, as far as the channels tell: each has one of its own, or waits for several others."""
    nodes = [START] if START in found.channels else []
    for name, channel in found.channels.items():
        if name.startswith(BRANCH):
            nodes.append(name.removeprefix(BRANCH))
        elif name.startswith(JOIN):
            awaited, _, node = name.removeprefix(JOIN).rpartition(":")
            value = _value(found, channel.value)
            if isinstance(value, dict) and value.get("value") == sorted(awaited.split("+")):
                nodes.append(node)
        elif name == TASKS:
            value = _value(found, channel.value)
            sends = value if isinstance(value, list) else []
            nodes += [each["node"] for each in sends if isinstance(each, dict) and isinstance(each.get("node"), str)]
    return nodes


def _interrupts(found: Inspected) -> list[Tree]:
    """What waits for an answer: the interrupts of tasks that have not finished."""
    done = {write.task_id for write in found.writes if write.idx >= 0}
    waiting = []
    for write in found.writes:
        if write.channel == INTERRUPT and write.task_id not in done:
            value = _value(found, write.value)
            waiting += value if isinstance(value, list) else [value]
    return waiting
