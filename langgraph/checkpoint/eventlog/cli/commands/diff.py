"""`diff`: the differences between two checkpoints of a thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

from rich.text import Text
from typer import Argument, Context

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import Difference, ValueDifference
from langgraph.checkpoint.eventlog.cli.finding import find_checkpoint
from langgraph.checkpoint.eventlog.cli.options import Allow, Full, Namespace, Thread, Trust
from langgraph.checkpoint.eventlog.cli.render.output import plural
from langgraph.checkpoint.eventlog.cli.render.plain import as_tree
from langgraph.checkpoint.eventlog.cli.render.values import Line, lines_of, one_line
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["diff"]

#: Places in one channel that are shown, unless all are asked for.
MOST_PLACES = 50


def diff(
    ctx: Context,
    thread_id: Thread,
    before: Annotated[str, Argument(metavar="A", help="A checkpoint's id, or the beginning of it.")],
    after: Annotated[str, Argument(metavar="B", help="The other checkpoint's id, or the beginning of it.")],
    ns: Namespace = None,
    full: Full = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Compare two checkpoints of a thread, channel by channel."""
    session = Session.of(ctx)
    with session.open_to_look(allow, trust=trust) as log:
        one = find_checkpoint(log, thread_id, before, ns)
        other = find_checkpoint(log, thread_id, after, ns)
        if one.checkpoint_ns != other.checkpoint_ns:
            raise InvalidInputError(
                f"{one.checkpoint_id!r} is in namespace {one.checkpoint_ns!r}, {other.checkpoint_id!r} in "
                f"{other.checkpoint_ns!r}: only checkpoints of one namespace can be compared"
            )
        found = log.diff(thread_id, one.checkpoint_id, other.checkpoint_id, checkpoint_ns=one.checkpoint_ns)
        if session.as_json:
            session.document(**_fields(found))
        else:
            session.lines(_lines(found, full))


def _fields(found: Difference) -> dict[str, Any]:
    channels = {name: list(map(_place_fields, places)) for name, places in found.channels.items()}
    return {**found._asdict(), "channels": channels, "metadata": list(map(_place_fields, found.metadata))}


def _place_fields(place: ValueDifference) -> dict[str, Any]:
    # An added value has no value before, which is not the same as None.
    sides = {"added": ("after",), "removed": ("before",)}.get(place.kind, ("before", "after"))
    values = {side: as_tree(getattr(place, side)) for side in sides}
    return {"kind": place.kind, "path": list(place.path), **values}


def _lines(found: Difference, full: bool) -> Iterator[Line]:
    yield Line(0, Text(f"- {one_line(found.before)}", "bold red"))
    yield Line(0, Text(f"+ {one_line(found.after)}", "bold green"))
    ancestor = "They have no common ancestor."
    if found.ancestor is not None:
        steps = f"{plural(found.steps_before or 0, 'step')} and {plural(found.steps_after or 0, 'step')} away"
        ancestor = f"Both descend from {one_line(found.ancestor)}: {steps}."
    yield Line(0, Text(ancestor, "dim"))
    for name, places in found.channels.items():
        yield from _places(name, places, full)
    if found.metadata:
        yield from _places("metadata", found.metadata, full, "of the checkpoint")
    if not found.channels:
        yield Line(0, Text())
        yield Line(0, Text("All channels are equal."))
    elif found.unchanged:
        yield Line(0, Text())
        yield Line(0, Text(f"Equal: {', '.join(map(one_line, found.unchanged))}", "dim"))


def _places(name: str, places: Sequence[ValueDifference], full: bool, about: str = "") -> Iterator[Line]:
    yield Line(0, Text())
    yield Line(0, Text.assemble((one_line(name), "bold underline"), (f"  {about}" if about else "", "dim")))
    for each in islice(places, None if full else MOST_PLACES):
        if each.path:
            path = "".join(f"[{key}]" if isinstance(key, int) else f".{one_line(key)}" for key in each.path)
            yield Line(1, Text(path.removeprefix("."), "dim"))
        if each.kind != "added":
            yield from _signed("-", "red", each.before, full)
        if each.kind != "removed":
            yield from _signed("+", "green", each.after, full)
    if not full and len(places) > MOST_PLACES:
        yield Line(1, Text(f"… {len(places) - MOST_PLACES:,} more (--full shows all)", "dim"))


def _signed(sign: str, style: str, value: Any, full: bool) -> Iterator[Line]:
    for indent, text in lines_of(as_tree(value), full=full):
        # The sign stays in its column, so that lines of one side can be found.
        yield Line(1, Text(f"{sign} {'  ' * indent}{text.plain}", style))
