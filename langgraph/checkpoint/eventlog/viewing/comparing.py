"""Comparing two checkpoints of a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventlog.streams import Stream
from langgraph.checkpoint.eventlog import Difference, ValueDifference
from langgraph.checkpoint.eventlog.viewing.branches import Node, read_nodes
from langgraph.checkpoint.eventlog.viewing.decoding import undecodable
from langgraph.checkpoint.eventlog.viewing.plain import Limits
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.texts import iso
from langgraph.checkpoint.eventlog.viewing.timeline import known_thread
from langgraph.checkpoint.eventlog.viewing.values import of_value
from projections.diff import Undecodable
from projections.event import is_internal

__all__ = ["diff"]

#: Places of one channel that are shown.
MOST_PARTS = 200

#: Checkpoints to choose from.
MOST_CHOICES = 200


async def diff(
    reader: Reader,
    thread_id: str,
    before: str | None = None,
    after: str | None = None,
    *,
    ns: str = "",
    limits: Limits | None = None,
) -> dict[str, Any]:
    """The differences of two checkpoints of one namespace; without both, only the checkpoints to choose from.

    Args:
        limits: limits of the shown values.

    Raises:
        ThreadNotFoundError: when the thread or one of the checkpoints does not exist.
    """
    await known_thread(reader, thread_id, ns)
    stream = Stream(thread_id, ns)
    nodes = await reader.ask(lambda: read_nodes(reader.statements, stream, MOST_CHOICES))
    document: dict[str, Any] = {
        "thread_id": thread_id,
        "ns": ns,
        "before": before or None,
        "after": after or None,
        "common_ancestor": None,
        "steps_before": None,
        "steps_after": None,
        "channels": [],
        "unchanged": [],
        "metadata": [],
        "metadata_left_out": 0,
        "checkpoints": list(map(_choice, nodes)),
    }
    if not before or not after:
        return document
    found: Difference = await reader.run("diff", thread_id, before, after, checkpoint_ns=ns, on_undecodable="show")
    compared: dict[str, Any] = await reader.in_thread(lambda: {**document, **_difference(found, limits or Limits())})
    return compared


def _choice(node: Node) -> dict[str, Any]:
    return {
        "checkpoint_id": node.checkpoint_id,
        "step": node.step if type(node.step) is int else None,
        "source": node.source,
        "time": iso(node.first_at),
    }


def _difference(found: Difference, limits: Limits) -> dict[str, Any]:
    names = sorted(found.channels, key=is_internal)
    return {
        "common_ancestor": found.ancestor,
        "steps_before": found.steps_before,
        "steps_after": found.steps_after,
        "channels": [
            {
                "channel": name,
                "internal": is_internal(name),
                "what": _kind(found.channels[name]),
                "parts": _parts(found.channels[name], limits),
                "left_out": max(0, len(found.channels[name]) - MOST_PARTS),
            }
            for name in names
        ],
        "unchanged": found.unchanged,
        "metadata": _parts(found.metadata, limits),
        "metadata_left_out": max(0, len(found.metadata) - MOST_PARTS),
    }


def _kind(places: Sequence[ValueDifference]) -> str:
    """`added` or `removed` for a channel as a whole, else `changed`."""
    return places[0].kind if len(places) == 1 and not places[0].path else "changed"


def _parts(places: Sequence[ValueDifference], limits: Limits) -> list[dict[str, Any]]:
    return [_part(each, limits) for each in places[:MOST_PARTS]]


def _part(place: ValueDifference, limits: Limits) -> dict[str, Any]:
    part: dict[str, Any] = {"kind": place.kind, "path": list(place.path), "before": None, "after": None, "cut": False}
    # An added value has no value before, which differs from None.
    for side in {"added": ("after",), "removed": ("before",)}.get(place.kind, ("before", "after")):
        value = getattr(place, side)
        if isinstance(value, Undecodable):
            value = undecodable(value.type, value.data, value.error)
        tree = of_value(value, limits)
        part[side] = tree.tree
        part["cut"] = part["cut"] or tree.cut
    return part
