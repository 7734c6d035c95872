"""`diff`: the differences between two checkpoints of a thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from rich.text import Text
from typer import Argument, Context, Option

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import CheckpointName, Difference, EventLog, ValueDifference
from langgraph.checkpoint.eventlog.cli.finding import checkpoint_of_step, find_checkpoint
from langgraph.checkpoint.eventlog.cli.options import Allow, Full, Namespace, Thread, Trust
from langgraph.checkpoint.eventlog.cli.render.output import plural
from langgraph.checkpoint.eventlog.cli.render.values import Line, lines_of, one_line, section
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.viewing.plain import as_tree
from projections.event import is_internal

__all__ = ["diff"]

#: Places in one channel that are shown, unless all are asked for.
MOST_PLACES = 50


def diff(
    ctx: Context,
    thread_id: Thread,
    before: Annotated[
        str | None, Argument(metavar="A", help="A checkpoint's id or its beginning.", show_default=False)
    ] = None,
    after: Annotated[
        str | None,
        Argument(metavar="B", help="The other checkpoint's id or its beginning.", show_default=False),
    ] = None,
    ns: Namespace = None,
    step: Annotated[
        list[int] | None,
        Option(
            metavar="N",
            help="Instead of A or B: the checkpoint of this step, on the branch of the latest one. May be repeated.",
        ),
    ] = None,
    full: Full = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Compare two checkpoints of a thread, channel by channel."""
    session = Session.of(ctx)
    named: list[str | int] = [*(each for each in (before, after) if each is not None), *(step or [])]
    if len(named) != 2:
        raise InvalidInputError("give two checkpoints, by their ids, A and B, or by their steps: --step 3 --step 5")
    with session.open_to_look(allow, trust=trust) as log:
        one, other = (_find(session, log, thread_id, each, ns) for each in named)
        if one.checkpoint_ns != other.checkpoint_ns:
            raise InvalidInputError(
                f"{one.checkpoint_id!r} is in namespace {one.checkpoint_ns!r}, {other.checkpoint_id!r} in "
                f"{other.checkpoint_ns!r}: only checkpoints of one namespace can be compared"
            )
        found = log.diff(thread_id, one.checkpoint_id, other.checkpoint_id, checkpoint_ns=one.checkpoint_ns)
        document = _document(found)
        session.document(**document)
        session.lines(_lines(document, full))


def _find(session: Session, log: EventLog, thread_id: str, named: str | int, ns: str | None) -> CheckpointName:
    if isinstance(named, str):
        return find_checkpoint(log, thread_id, named, ns)
    name, hint = checkpoint_of_step(log, thread_id, named, ns)
    if hint is not None:
        session.note(hint)
    return name


def _document(found: Difference) -> dict[str, Any]:
    channels = {name: list(map(_place, places)) for name, places in found.channels.items()}
    return {**found._asdict(), "channels": channels, "metadata": list(map(_place, found.metadata))}


def _place(found: ValueDifference) -> dict[str, Any]:
    # An added value has no value before, which is not the same as None.
    sides = {"added": ("after",), "removed": ("before",)}.get(found.kind, ("before", "after"))
    values = {side: as_tree(getattr(found, side)) for side in sides}
    return {"kind": found.kind, "path": list(found.path), **values}


def _lines(document: dict[str, Any], full: bool) -> Iterator[Line]:
    yield Line(0, Text(f"- {one_line(document['before'])}", "bold red"))
    yield Line(0, Text(f"+ {one_line(document['after'])}", "bold green"))
    ancestor = "They have no common ancestor."
    if document["ancestor"] is not None:
        steps = " and ".join(plural(document[f"steps_{side}"] or 0, "step") for side in ("before", "after"))
        ancestor = f"Both descend from {one_line(document['ancestor'])}: {steps} away."
    yield Line(0, Text(ancestor, "dim"))
    for name, places in document["channels"].items():
        if full or not is_internal(name):
            yield from section(name)
            yield from _places(places, full)
    if document["metadata"]:
        yield from section("metadata", "of the checkpoint")
        yield from _places(document["metadata"], full)
    if not full and (internal := ", ".join(one_line(name) for name in document["channels"] if is_internal(name))):
        yield Line(0, Text())
        yield Line(0, Text(f"LangGraph's own, which --full shows: {internal}", "dim"))
    equal = ", ".join(map(one_line, document["unchanged"]))
    if equal or not document["channels"]:
        yield Line(0, Text())
        yield Line(0, Text(f"Equal: {equal}" if document["channels"] else "All channels are equal.", "dim"))


def _places(places: list[dict[str, Any]], full: bool) -> Iterator[Line]:
    for each in places[: None if full else MOST_PLACES]:
        if each["path"]:
            path = "".join(f"[{key}]" if isinstance(key, int) else f".{one_line(key)}" for key in each["path"])
            yield Line(1, Text(path.removeprefix("."), "dim"))
        for sign, side, style in (("-", "before", "red"), ("+", "after", "green")):
            # The sign stays in its column, so that lines of one side can be found.
            for indent, text in lines_of(each[side], full=full) if side in each else ():
                yield Line(1, Text(f"{sign} {'  ' * indent}{text.plain}", style))
    if not full and len(places) > MOST_PLACES:
        yield Line(1, Text(f"… {len(places) - MOST_PLACES:,} more (--full shows all)", "dim"))
