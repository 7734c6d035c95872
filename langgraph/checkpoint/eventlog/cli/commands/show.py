"""`show`: one checkpoint, with the values of its channels."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Annotated, Any

from rich.text import Text
from typer import Argument, Context, Option

from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import EventLog, Inspected
from langgraph.checkpoint.eventlog.cli.finding import checkpoint_of_step, find_checkpoint, latest_or_named, named_object
from langgraph.checkpoint.eventlog.cli.options import Allow, Full, Namespace, Trust
from langgraph.checkpoint.eventlog.cli.parsing import time
from langgraph.checkpoint.eventlog.cli.render.output import plural, printable, size, when
from langgraph.checkpoint.eventlog.cli.render.values import Line, lines_of, named_lines, one_line, section
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.viewing.channels import (
    ERROR,
    INTERRUPT,
    SPECIAL,
    finished_tasks,
    next_nodes,
    node_of,
)
from langgraph.checkpoint.eventlog.viewing.decoding import undecodable
from langgraph.checkpoint.eventlog.viewing.messages import as_conversation
from langgraph.checkpoint.eventlog.viewing.plain import Tree, as_tree
from projections.event import is_internal

__all__ = ["show"]


def show(
    ctx: Context,
    thread_id: Annotated[
        str, Argument(metavar="THREAD", help="The thread's id, or the id of a checkpoint of any thread.")
    ],
    checkpoint_id: Annotated[
        str | None,
        Argument(metavar="CHECKPOINT", help="The checkpoint's id or its beginning. By default the latest."),
    ] = None,
    ns: Namespace = None,
    at: Annotated[
        datetime | None,
        Option(
            parser=time,
            metavar="TIME",
            help="Show the checkpoint that was the latest at this time, as it was then: 2026-11-22T10:30:00Z.",
        ),
    ] = None,
    step: Annotated[
        int | None, Option(metavar="N", help="Show the checkpoint of this step, on the branch of the latest one.")
    ] = None,
    channel: Annotated[str | None, Option(metavar="NAME", help="Show only this channel's value.")] = None,
    full: Full = False,
    upcasters: Annotated[
        str | None,
        Option(
            metavar="MODULE:NAME",
            help="Show values as these upcasters convert them: a list in a module of yours, which is imported.",
        ),
    ] = None,
    raw: Annotated[bool, Option("--raw", help="With --upcasters: also show values as they are stored.")] = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Show a checkpoint: its origin, the values of its channels, and its pending writes.

    Values of classes that are not on the list of safe types are shown as data; their code does not run.
    """
    session = Session.of(ctx)
    if raw and upcasters is None:
        raise InvalidInputError(
            "--raw needs --upcasters: without upcasters, show always shows values as they are stored"
        )
    if sum(each is not None for each in (checkpoint_id, at, step)) > 1:
        raise InvalidInputError("give one of CHECKPOINT, --at and --step")
    given = None if upcasters is None else named_object(upcasters, "upcasters: write")
    with session.open_to_look(allow, trust=trust, upcasters=given) as log:
        if at is not None:
            found = _inspect_at(log, thread_id, ns or "", at)
        else:
            if step is not None:
                name, hint = checkpoint_of_step(log, thread_id, step, ns)
                if hint is not None:
                    session.note(hint)
            elif checkpoint_id is None:
                name = latest_or_named(log, thread_id, ns)
            else:
                name = find_checkpoint(log, thread_id, checkpoint_id, ns)
            there = log.inspect({"configurable": name._asdict()})
            if there is None:
                raise ThreadNotFoundError(f"checkpoint {name.checkpoint_id!r} was erased during this command")
            found = there
        look = _Look(found, at, is_upcast=upcasters is not None, with_raw=raw)
        if channel is None:
            document = look.document()
            lines = _lines(document, full)
        elif channel in found.channels:
            document = look.channel(channel)
            lines = _value_lines(document, full)
        else:
            names = ", ".join(map(repr, found.channels)) or "none"
            raise InvalidInputError(f"--channel: the checkpoint has no value in channel {channel!r}; it has: {names}")
        session.document(**document)
        session.lines(lines)


def _inspect_at(log: EventLog, thread_id: str, ns: str, at: datetime) -> Inspected:
    """What a namespace's latest checkpoint was at a time; one in whole milliseconds includes all of its millisecond.

    Times are shown like that, and one that was copied must not exclude the event that it is of.
    """
    end = at if at.microsecond % 1000 else at + timedelta(microseconds=999)
    found = log.inspect({"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}, at=end)
    if found is None:
        raise ThreadNotFoundError(
            f"thread {thread_id!r} had no checkpoint in namespace {ns!r} at {when(at)} UTC; 'eventlog history THREAD' "
            "shows when its events were saved"
        )
    return found


# --- for machines


class _Look:
    """What there is to tell of a checkpoint.

    Args:
        at: the time that it was asked for, if one was.
        is_upcast: whether values are those that the log's upcasters make.
        with_raw: whether each has the stored one beside it.
    """

    def __init__(self, found: Inspected, at: datetime | None, *, is_upcast: bool, with_raw: bool) -> None:
        self._found, self._at, self._is_upcast, self._with_raw = found, at, is_upcast, with_raw

    def document(self) -> dict[str, Any]:
        """All of it."""
        found = self._found
        metadata = _mapping(self._stored(found.metadata))
        channels = {name: self.channel(name) for name in found.channels}
        writes = [{**write._asdict(), **self._value_fields(write.channel, write.value)} for write in found.writes]
        finished = finished_tasks(writes)
        internal = {name: each["value"] for name, each in channels.items() if is_internal(name)}
        names = (
            "thread_id",
            "checkpoint_ns",
            "checkpoint_id",
            "parent_checkpoint_id",
            "seq",
            "saved_at",
            "recorded_at",
        )
        return {
            **{name: getattr(found, name) for name in (*names, "keyframe_seq", "replayed", "state_bytes")},
            "at": self._at,
            **{name: metadata.get(name) for name in ("step", "source", "run_id")},
            "next": next_nodes(internal, finished.values()),
            "interrupts": _interrupts(writes, finished),
            "metadata": metadata,
            "fields": _mapping(self._stored(found.fields)),
            "channels": channels,
            "channel_versions": as_tree(found.versions),
            "versions_seen": as_tree(found.versions_seen),
            "writes": writes,
        }

    def channel(self, name: str) -> dict[str, Any]:
        """One channel."""
        version, value = self._found.channels[name]
        return {"version": as_tree(version), **self._value_fields(name, value)}

    def _value_fields(self, channel: str, value: Any) -> dict[str, Any]:
        stored = self._stored(value)
        fields = {"type": value.type, "bytes": len(value.data), "value": stored}
        if self._is_upcast:
            fields["value"] = as_tree(self._found.upcast(channel, value))
        if self._with_raw:
            fields["raw"] = stored
        return fields

    def _stored(self, value: Any) -> Tree:
        try:
            return as_tree(self._found.load(value))
        except LogCorruptedError as exc:
            # Of types that the log itself serializes; the command's own serializer does not raise.
            return as_tree(undecodable(value.type, value.data, str(exc)))


def _mapping(tree: Tree) -> dict[str, Tree]:
    """The mapping itself; any other value as the only entry of a mapping."""
    return tree if isinstance(tree, dict) else {"value": tree}


def _interrupts(writes: list[dict[str, Any]], finished: Collection[str]) -> list[Tree]:
    """The interrupts of tasks that have not finished: they wait for an answer.

    Args:
        finished: ids of tasks.
    """
    waiting = [each["value"] for each in writes if each["channel"] == INTERRUPT and each["task_id"] not in finished]
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
        "as of": document["at"] and f"{when(document['at'])} UTC: the latest checkpoint then, as it was",
        "saved": f"{when(document['saved_at'])} UTC, event {document['seq']:,}",
        "relocated": document["recorded_at"] != document["saved_at"] and f"{when(document['recorded_at'])} UTC",
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
    yield from _value_lines(channel, full, indent=1)


def _value_lines(fields: dict[str, Any], full: bool, indent: int = 0) -> Iterator[Line]:
    yield from lines_of(fields["value"], full=full, indent=indent)
    if "raw" in fields and fields["raw"] != fields["value"]:
        yield Line(indent, Text("as stored:", "dim"))
        yield from lines_of(fields["raw"], full=full, indent=indent + 1)


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
            if "raw" in write and write["raw"] != write["value"]:
                yield from named_lines(Text("as stored:", "dim"), write["raw"], full=full, indent=3)
