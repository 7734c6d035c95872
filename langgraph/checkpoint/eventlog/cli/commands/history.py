"""`history` and `diff`: what happened in a thread, and what differs between two of its checkpoints."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice, pairwise
from typing import Annotated, Any

import typer
from rich.text import Text

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import Change, Difference, HistoryRecord, ValueDifference
from langgraph.checkpoint.eventlog.cli.commands.show import Allow, Full, Namespace, Trust, is_internal, node_of
from langgraph.checkpoint.eventlog.cli.finding import checkpoint_of_thread
from langgraph.checkpoint.eventlog.cli.render.output import Output, plural, printable, size, when
from langgraph.checkpoint.eventlog.cli.render.plain import as_json, as_tree
from langgraph.checkpoint.eventlog.cli.render.trees import checkpoint_trees
from langgraph.checkpoint.eventlog.cli.render.values import Line, inline, lines_of, shown
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["register"]

#: Events that people are shown, unless they say how many.
SOME = 100

#: An id is not made shorter than up to its second dash, which is 13 characters of a UUID; without dashes, than this.
SHORTEST_ID = 13


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (history, diff):
        app.command()(command)


def history(
    ctx: typer.Context,
    thread_id: Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id.", show_default=False)],
    ns: Annotated[
        str | None,
        typer.Option(
            "--ns", metavar="NAMESPACE", show_default=False, help="Show only this namespace; '' is the root graph's."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            metavar="N",
            show_default=False,
            help=f"Show at most N events. {SOME} by default; all with --json or --tree.",
        ),
    ] = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", "--reverse", help="Show the latest event first.")
    ] = False,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="CURSOR",
            show_default=False,
            help="Start after this event: the cursor that an earlier call ended with.",
        ),
    ] = None,
    changes: Annotated[bool, typer.Option("--changes", help="Show the values that were appended and set.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Show the checkpoints as a tree, with its branches.")] = False,
    full: Full = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Show the history of a thread, event by event. A deleted thread has a history, too."""
    session = Session.of(ctx)
    output = session.output
    if tree and changes:
        raise InvalidInputError("--tree shows checkpoints, and --changes shows values: give one of them")
    most = limit if limit is not None or session.as_json or tree else SOME
    criteria: dict[str, Any] = {"checkpoint_ns": ns, "after": after, "limit": most, "newest_first": newest_first}
    if tree:
        criteria["kinds"] = ["checkpoint"]
    with session.open_to_look(allow or (), trust=trust) as log:
        records: Iterable[HistoryRecord | Change]
        records = log.changes(thread_id, **criteria) if changes else log.history(thread_id, **criteria)
        if session.as_json:
            for each in records:
                output.document(**_json(each))
            return
        if changes:
            last = _show_changes(output, records, most, full=full)
        else:
            found = [each for each in records if isinstance(each, HistoryRecord)]
            if tree:
                output.trees(checkpoint_trees(found, _shortened(output, found), log.namespaces(thread_id)))
            elif found:
                _show_table(output, found, full=full)
            last = found[-1] if found and len(found) == most else None
            if not found:
                output.note("No events.")
    if last is not None:
        output.note(f"For later events: --after {shlex.quote(last.cursor)}")


def _json(each: HistoryRecord | Change) -> dict[str, Any]:
    record = each.record if isinstance(each, Change) else each
    fields = {**asdict(record), "operation": as_json(as_tree(record.operation)), "cursor": record.cursor}
    if isinstance(each, Change):
        for channel, value in zip(fields["channels"], each.values, strict=True):
            channel["value"] = as_json(as_tree(value))
    return fields


# --- the table


def _show_table(output: Output, records: Sequence[HistoryRecord], *, full: bool) -> None:
    short = _shortened(output, records)
    has_namespaces = len({each.checkpoint_ns for each in records}) > 1
    columns = {
        "time (UTC)": False,
        "event": True,
        **({"namespace": False} if has_namespaces else {}),
        "step": True,
        "what": False,
        "checkpoint": False,
        "channels": False,
        "size": True,
    }
    rows, sentences = [], []
    for each in records:
        told = ", ".join(_channels(each, full))
        if each.operation is not None:
            told = _operation(each)
            if output.out.is_terminal:
                # A sentence is no sentence in a column of ten characters.
                sentences.append(f"event {each.seq:,}{_namespaced(each, has_namespaces)}: {told}")
                told = ""
        rows.append(
            (
                when(each.time),
                f"{each.seq:,}",
                *([each.checkpoint_ns] if has_namespaces else []),
                "" if each.step is None else str(each.step),
                _what(each, short),
                short.get(each.checkpoint_id or "", ""),
                told,
                size(each.stored_bytes),
            )
        )
    output.table(columns, rows, whole=("time (UTC)", "checkpoint"))
    output.lines(Line(0, Text(shown(each))) for each in sentences)


def _namespaced(record: HistoryRecord, has_namespaces: bool) -> str:
    return f" of {record.checkpoint_ns or 'the root graph'}" if has_namespaces else ""


def _shortened(output: Output, records: Iterable[HistoryRecord]) -> dict[str, str]:
    """Ids as they are shown: on a terminal no longer than it takes to tell them apart."""
    named = ((each.checkpoint_id, *each.concurrent_with) for each in records)
    ids = sorted({id_ for ids in named for id_ in ids if id_ is not None})
    if not output.out.is_terminal:
        return {id_: id_ for id_ in ids}
    # What is not listed here may begin alike, too; `show` is to find this one all the same.
    length = max([SHORTEST_ID, *(len("-".join(id_.split("-")[:2])) for id_ in ids)])
    for one, other in pairwise(ids):
        while one[:length] == other[:length] and length < len(other):
            length += 1
    return {id_: id_[:length] for id_ in ids}


def _what(record: HistoryRecord, short: Mapping[str, str]) -> str:
    """In a few words what an event is. `short`: ids to what they are shown as, where that is not as they are."""
    if record.kind == "checkpoint":
        found = record.source or "checkpoint"
    elif record.kind == "writes":
        found = f"writes of {node_of(record.task_path or '') or record.task_id}"
    else:
        found = record.kind
    fork = "fork" if record.fork else "beginning"
    conflicting = " and ".join(short.get(id_, id_) for id_ in record.concurrent_with)
    marks = {
        f"concurrent {fork} with {conflicting}": bool(conflicting),
        "fork": record.fork and not conflicting,
        "again": record.repeat,
        "carried forward": record.relocated_at is not None,
    }
    return ", ".join([found, *(mark for mark, is_so in marks.items() if is_so)])


def _channels(record: HistoryRecord, full: bool) -> Iterator[str]:
    """What happened in each channel; what LangGraph does in its own is left out, as a rule."""
    for each in record.channels:
        if is_internal(each.channel) and not full and each.channel not in _TELLING:
            continue
        length = "" if each.length is None else f" of {each.length:,}"
        what = f"+{each.items:,}{length}" if each.what == "appended" else each.what
        yield f"{_TELLING.get(each.channel, each.channel)} {what}"


#: Channels of LangGraph's own that everybody wants to know of.
_TELLING = {"__interrupt__": "interrupt", "__error__": "error", "__resume__": "resume"}


#: What a record of an operation says for machines.
_OF_THE_CALL = ("request", "source_seq", "source_digest")


def _operation(record: HistoryRecord) -> str:
    """A sentence that says what was done to a namespace."""
    says = {key: each for key, each in (record.operation or {}).items() if key not in _OF_THE_CALL}
    name, by, actor = says.pop("operation", record.kind), says.pop("by", None), says.pop("actor", None)
    counts = [
        plural(says.pop(key), noun)
        for key, noun in (("checkpoints", "checkpoint"), ("events", "event"))
        if isinstance(says.get(key), int)
    ]
    if isinstance(says.get("bytes"), int):
        counts.append(size(says.pop("bytes")))
    source = says.pop("source", None)
    verb = f"copied from {source}:" if record.kind == "copied" else "erased"
    who = " for ".join(str(each) for each in (by, actor) if each is not None)
    rest = [f"{key}: {inline(as_tree(each)) or '…'}" for key, each in says.items() if each is not None]
    return f"{name} by {who or 'an unknown user'}: {verb} {', '.join(counts)}{''.join(f'; {each}' for each in rest)}"


# --- what changed


def _show_changes(output: Output, found: Iterable[Any], most: int | None, *, full: bool) -> HistoryRecord | None:
    """Writes each as it comes; returns the last one where there may be more."""
    count, last = 0, None
    for change in found:
        last = change.record
        count += 1
        output.lines(_change(change, full))
    if last is None:
        output.note("No events.")
    return last if count == most else None


def _change(change: Change, full: bool) -> Iterator[Line]:
    record = change.record
    step = "" if record.step is None else f"step {record.step} "
    heading = Text.assemble(
        (when(record.time), "bold"),
        f"  event {record.seq:,}",
        f"  {printable(record.checkpoint_ns)}" if record.checkpoint_ns else "",
        (f"  {step}{shown(_what(record, {}))}", "bold"),
        (f"  {printable(record.checkpoint_id or '')}  {size(record.stored_bytes)}", "dim"),
    )
    yield Line(0, heading)
    if record.operation is not None:
        yield Line(1, Text(shown(_operation(record))))
    for each, value in zip(record.channels, change.values, strict=True):
        if is_internal(each.channel) and not full and each.channel not in _TELLING:
            continue
        name = Text(f"{shown(_TELLING.get(each.channel, each.channel))} ", "bold")
        what = f"+{each.items:,}" if each.what == "appended" else each.what
        tree = as_tree(value)
        if each.what == "removed":
            yield Line(1, name.append(what, "dim"))
        elif (text := inline(tree)) is not None:
            yield Line(1, name.append(f"{what}: ", "dim").append(text, ""))
        else:
            yield Line(1, name.append(f"{what}, {size(each.bytes)}", "dim"))
            yield from lines_of(tree, full=full, indent=2)
    yield Line(0, Text())


# --- diff


def diff(
    ctx: typer.Context,
    thread_id: Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id.", show_default=False)],
    before: Annotated[
        str, typer.Argument(metavar="A", help="A checkpoint's id, or the beginning of it.", show_default=False)
    ],
    after: Annotated[
        str, typer.Argument(metavar="B", help="The other checkpoint's id, or the beginning of it.", show_default=False)
    ],
    ns: Namespace = None,
    full: Full = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Compare two checkpoints of a thread, channel by channel."""
    session = Session.of(ctx)
    with session.open_to_look(allow or (), trust=trust) as log:
        one = checkpoint_of_thread(log, thread_id, before, ns)
        other = checkpoint_of_thread(log, thread_id, after, ns)
        if one.checkpoint_ns != other.checkpoint_ns:
            raise InvalidInputError(
                f"{one.checkpoint_id!r} is in namespace {one.checkpoint_ns!r}, {other.checkpoint_id!r} in "
                f"{other.checkpoint_ns!r}: only checkpoints of one namespace can be compared"
            )
        found = log.diff(thread_id, one.checkpoint_id, other.checkpoint_id, checkpoint_ns=one.checkpoint_ns)
        if session.as_json:
            session.output.document(**_difference_json(found))
        else:
            session.output.lines(_difference(found, full))


def _difference_json(found: Difference) -> dict[str, Any]:
    def plain(each: ValueDifference) -> dict[str, Any]:
        # What was added has no value before, which is not the same as None.
        sides = {"added": ("after",), "removed": ("before",)}.get(each.kind, ("before", "after"))
        values = {side: as_json(as_tree(getattr(each, side))) for side in sides}
        return {"kind": each.kind, "path": list(each.path), **values}

    return {
        **found._asdict(),
        "channels": {name: [plain(each) for each in places] for name, places in found.channels.items()},
        "metadata": [plain(each) for each in found.metadata],
    }


def _difference(found: Difference, full: bool) -> Iterator[Line]:
    yield Line(0, Text(f"- {shown(found.before)}", "bold red"))
    yield Line(0, Text(f"+ {shown(found.after)}", "bold green"))
    if found.ancestor is None:
        yield Line(0, Text("They have no common ancestor.", "dim"))
    else:
        yield Line(
            0,
            Text(
                f"Both descend from {shown(found.ancestor)}: {plural(found.steps_before or 0, 'step')} and "
                f"{plural(found.steps_after or 0, 'step')} away.",
                "dim",
            ),
        )
    for name, places in found.channels.items():
        yield from _places(name, places, full)
    if found.metadata:
        yield from _places("metadata", found.metadata, full, "of the checkpoint")
    if not found.channels:
        yield Line(0, Text())
        yield Line(0, Text("All channels are equal."))
    elif found.unchanged:
        yield Line(0, Text())
        yield Line(0, Text(f"Equal: {', '.join(map(shown, found.unchanged))}", "dim"))


def _places(name: str, places: Sequence[ValueDifference], full: bool, about: str = "") -> Iterator[Line]:
    yield Line(0, Text())
    yield Line(0, Text.assemble((shown(name), "bold underline"), (f"  {about}" if about else "", "dim")))
    for each in islice(places, None if full else MOST_PLACES):
        if each.path:
            yield Line(1, Text(_path(each.path), "dim"))
        if each.kind != "added":
            yield from _signed("-", "red", each.before, full)
        if each.kind != "removed":
            yield from _signed("+", "green", each.after, full)
    if not full and len(places) > MOST_PLACES:
        yield Line(1, Text(f"… {len(places) - MOST_PLACES:,} more (--full shows all)", "dim"))


#: Places in one channel that are shown, unless all are asked for.
MOST_PLACES = 50


def _path(path: Sequence[str | int]) -> str:
    return "".join(f"[{each}]" if isinstance(each, int) else f".{shown(each)}" for each in path).removeprefix(".")


def _signed(sign: str, style: str, value: Any, full: bool) -> Iterator[Line]:
    for indent, text in lines_of(as_tree(value), full=full):
        # The sign stays in its column, so that lines of one side can be found.
        yield Line(1, Text(f"{sign} {'  ' * indent}{text.plain}", style))
