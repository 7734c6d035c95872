"""`history`: the events of a thread, as a table, with their values, or as a tree of checkpoints."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from rich.text import Text
from typer import Context, Option

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import HistoryEntry
from langgraph.checkpoint.eventlog.cli.options import After, Allow, Full, Namespace, Thread, Trust
from langgraph.checkpoint.eventlog.cli.render.output import Columns, Output, printable, size, when
from langgraph.checkpoint.eventlog.cli.render.trees import checkpoint_trees
from langgraph.checkpoint.eventlog.cli.render.values import Line, named_lines, one_line
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.viewing.channels import SPECIAL, node_of
from langgraph.checkpoint.eventlog.viewing.plain import as_tree
from langgraph.checkpoint.eventlog.viewing.texts import operation_text
from projections.event import is_internal

__all__ = ["change_document", "change_lines", "history"]

#: Events that people are shown by default.
PAGE = 100

#: An id is not made shorter than up to its second dash, which is 13 characters of a UUID; without dashes, than this.
SHORTEST_ID = 13


def history(
    ctx: Context,
    thread_id: Thread,
    ns: Namespace = None,
    limit: Annotated[
        int | None,
        Option(min=1, metavar="N", help=f"Show at most N events. {PAGE} by default; all with --json or --tree."),
    ] = None,
    newest_first: Annotated[bool, Option("--newest-first", "--reverse", help="Show the latest event first.")] = False,
    after: After = None,
    changes: Annotated[bool, Option("--changes", help="Show the values that were appended, set and written.")] = False,
    tree: Annotated[
        bool, Option("--tree", help="Show the checkpoints as a tree with branches. Not with --changes.")
    ] = False,
    show_undecodable: Annotated[
        bool,
        Option("--show-undecodable", help="Continue after events that do not decode, and show the reason of each."),
    ] = False,
    full: Full = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Show the history of a thread, event by event. Deleted threads have a history too."""
    session = Session.of(ctx)
    if tree and changes:
        raise InvalidInputError("--tree shows checkpoints, and --changes shows values: give one of them")
    most = limit if limit is not None or session.as_json or tree else PAGE
    criteria: dict[str, Any] = {"checkpoint_ns": ns, "after": after, "limit": most, "newest_first": newest_first}
    if show_undecodable:
        criteria["on_undecodable"] = "show"
    if tree:
        criteria["kinds"] = ["checkpoint"]
    count, last = 0, None
    with session.open_to_look(allow, trust=trust) as log:
        if changes:
            for entry, values in log.changes(thread_id, **criteria):
                count, last = count + 1, entry
                document = change_document(entry, values)
                session.document(**document)
                session.lines(change_lines(entry, document["channels"], full))
        elif session.as_json:
            for entry in log.history(thread_id, **criteria):
                session.document(**change_document(entry))
        else:
            found = list(log.history(thread_id, **criteria))
            if tree:
                for each in checkpoint_trees(found, _short_ids(session, found), log.namespaces(thread_id)):
                    session.out.print(each)
            elif found:
                _show_table(session, found, full=full)
            count, last = len(found), found[-1] if found else None
    if session.as_json:
        return
    if last is None:
        session.note("No events.")
    elif count == most:
        session.note(f"For later events: --after {shlex.quote(last.cursor)}")


def change_document(entry: HistoryEntry, values: Sequence[Any] = ()) -> dict[str, Any]:
    """An event for machines; each of its channels has its value, where there are values."""
    document = {**asdict(entry), "operation": as_tree(entry.operation), "cursor": entry.cursor}
    for channel, value in zip(document["channels"], values, strict=False):
        channel["value"] = as_tree(value)
    return document


# --- the table


def _show_table(output: Output, entries: Sequence[HistoryEntry], *, full: bool) -> None:
    short = _short_ids(output, entries)
    has_namespaces = len({each.checkpoint_ns for each in entries}) > 1
    # In a narrow column a sentence could not be read: it stands beneath the table.
    operations_beneath = output.out.is_terminal

    def channels_cell(each: HistoryEntry) -> str:
        if each.error is not None:
            return one_line(each.error)
        if each.operation is None:
            return ", ".join(_channel_changes(each, full))
        return "" if operations_beneath else operation_text(each.kind, each.operation)

    columns: Columns = {
        "time (UTC)": "time",
        "event": "seq",
        **({"namespace": "checkpoint_ns"} if has_namespaces else {}),
        "step": lambda each: "" if each.step is None else each.step,
        "what": lambda each: _description(each, short),
        "checkpoint": lambda each: short.get(each.checkpoint_id, ""),
        "channels": channels_cell,
        "size": "stored_bytes",
    }
    output.table(columns, entries, whole=("time (UTC)", "checkpoint"))
    for each in entries:
        if operations_beneath and each.operation is not None:
            of = f" of {each.checkpoint_ns or 'the root graph'}" if has_namespaces else ""
            output.lines(
                [Line(0, Text(one_line(f"event {each.seq:,}{of}: {operation_text(each.kind, each.operation)}")))]
            )


def _short_ids(output: Output, entries: Iterable[HistoryEntry]) -> dict[str, str]:
    """Each id in the form that is shown: on a terminal no longer than it takes to tell them apart."""
    named = {id_ for each in entries for id_ in (each.checkpoint_id, *each.concurrent_with) if id_ is not None}
    if not output.out.is_terminal:
        return {id_: id_ for id_ in named}
    # Ids that are not listed may begin alike, too; `show` is to find this one all the same.
    length = max([SHORTEST_ID, *(len("-".join(id_.split("-")[:2])) for id_ in named)])
    while len({id_[:length] for id_ in named}) < len(named):
        length += 1
    return {id_: id_[:length] for id_ in named}


def _description(entry: HistoryEntry, short: Mapping[str, str]) -> str:
    """An event in a few words, with ids in the form that `short` has for them."""
    if entry.kind == "checkpoint":
        words = [entry.source or "checkpoint"]
    elif entry.kind == "writes":
        words = [f"writes of {node_of(entry.task_path or '') or entry.task_id}"]
    else:
        words = [entry.kind]
    if entry.error is not None:
        words = [f"{entry.kind}, does not decode"]
    if entry.actor is not None and entry.operation is None:
        words.append(f"by {entry.actor}")
    if entry.user_id is not None:
        words.append(f"user {entry.user_id}")
    if entry.concurrent_with:
        others = " and ".join(short.get(id_, id_) for id_ in entry.concurrent_with)
        words.append(f"concurrent {'fork' if entry.fork else 'beginning'} with {others}")
    elif entry.fork:
        words.append("fork")
    if entry.repeat:
        words.append("again")
    if entry.relocated_at is not None:
        words.append("relocated")
    return ", ".join(words)


def _is_shown(channel: str, full: bool) -> bool:
    return full or channel in SPECIAL or not is_internal(channel)


def _channel_changes(entry: HistoryEntry, full: bool) -> Iterator[str]:
    for each in entry.channels:
        if _is_shown(each.channel, full):
            length = "" if each.length is None else f" of {each.length:,}"
            what = f"+{each.items:,}{length}" if each.what == "appended" else each.what
            yield f"{SPECIAL.get(each.channel, each.channel)} {what}"


# --- the values


def change_lines(
    entry: HistoryEntry, channels: list[dict[str, Any]], full: bool, *, thread: bool = False, cursor: str = ""
) -> Iterator[Line]:
    """The lines of an event; each of the channels has its value.

    Args:
        thread: whether to name its thread.
        cursor: stands at the end of the heading.
    """
    step = "" if entry.step is None else f"step {entry.step} "
    heading = Text.assemble(
        (when(entry.time), "bold"),
        f"  {printable(entry.thread_id)}" if thread else "",
        f"  event {entry.seq:,}",
        f"  {printable(entry.checkpoint_ns)}" if entry.checkpoint_ns else "",
        (f"  {step}{one_line(_description(entry, {}))}", "bold"),
        (f"  {printable(entry.checkpoint_id or '')}  {size(entry.stored_bytes)}  {cursor}".rstrip(), "dim"),
    )
    yield Line(0, heading)
    if entry.error is not None:
        yield Line(1, Text(one_line(entry.error)))
    if entry.operation is not None:
        yield Line(1, Text(one_line(operation_text(entry.kind, entry.operation))))
    for each in channels:
        name, what = each["channel"], each["what"]
        if _is_shown(name, full):
            label = Text.assemble((one_line(SPECIAL.get(name, name)), "bold"), " ")
            if what == "removed":
                yield Line(1, label.append("removed", "dim"))
            else:
                label.append(f"+{each['items']:,}:" if what == "appended" else f"{what}:", "dim")
                yield from named_lines(label, each["value"], full=full, indent=1, about=f"  {size(each['bytes'])}")
    yield Line(0, Text())
