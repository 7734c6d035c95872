"""The changes between a checkpoint and its parent, found by their stored bytes: only changed values are decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eventlog.format.contents import Serialized
from eventlog.format.delta import Full
from eventlog.format.rope import Rope
from langgraph.checkpoint.eventlog import StoredChannel
from langgraph.checkpoint.eventlog.viewing.plain import Limits
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.values import shown
from projections.channel_values import appended
from projections.event import is_internal

__all__ = ["changes"]

#: The largest number of channels with shown changes.
MOST_CHANGES = 200


def changes(
    reader: Reader, before: Mapping[str, StoredChannel], after: Mapping[str, StoredChannel], limits: Limits
) -> list[dict[str, Any]]:
    """The change of each channel with another value, LangGraph's own channels last.

    Args:
        before: the channels of the parent; none, where there is no parent.
    """
    found = []
    for name in sorted({**before, **after}, key=is_internal):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None and old.value == new.value:
            continue
        found.append(_change(reader, name, old and old.value, new and new.value, limits))
        if len(found) == MOST_CHANGES:
            break
    return found


def _change(
    reader: Reader, name: str, old: Serialized | None, new: Serialized | None, limits: Limits
) -> dict[str, Any]:
    change: dict[str, Any] = {
        "channel": name,
        "internal": is_internal(name),
        "what": "removed" if new is None else "set" if old is None else "changed",
        "items": None,
        "before": None,
        "after": None,
        "appended": None,
        "cut": False,
    }
    if old is not None and new is not None:
        more = appended(Full(*new), (old.type, Rope(old.data)), (new.type, Rope(new.data)))
        if more is not None:
            items = shown(reader, more.value, limits)
            return {**change, "what": "appended", "items": more.items, "appended": items.tree, "cut": items.cut}
    for side, value in _sides(old, new):
        tree = shown(reader, value, limits)
        change[side] = tree.tree
        change["cut"] = change["cut"] or tree.cut
    return change


def _sides(old: Serialized | None, new: Serialized | None) -> Iterator[tuple[str, Serialized]]:
    if new is not None:
        yield "after", new
    if old is not None:
        yield "before", old
