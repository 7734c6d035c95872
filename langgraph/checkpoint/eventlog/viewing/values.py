"""Stored values as trees, cut to the limits of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.serde.types import _DeltaSnapshot

from eventlog.format.contents import Serialized
from langgraph.checkpoint.eventlog.viewing.decoding import pieces
from langgraph.checkpoint.eventlog.viewing.messages import Message, as_conversation
from langgraph.checkpoint.eventlog.viewing.plain import (
    FEWEST_ITEMS,
    ITEM_CHARS,
    LEFT_OUT,
    Limits,
    Tree,
    as_tree,
)
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from projections.event import is_internal

__all__ = ["MOST_MESSAGES", "WHOLE", "Shown", "conversation", "message_document", "of_value", "show_all", "shown"]

#: The number of last messages of a conversation that are shown.
MOST_MESSAGES = 200

#: Limits of a value that was requested by itself: a text of a mebibyte in full, and no more than a browser can show.
WHOLE = Limits(text=1_100_000, items=20_000, total=5_000_000)

#: Characters that an item with fields needs: with fewer left it is omitted, except for the minimum of items.
ENOUGH = 1_000

_SCALARS = (str, int, float, type(None))


class Shown:
    """A value as a tree, and the end of a list."""

    __slots__ = ("cut", "length", "tail", "tree")

    def __init__(self, tree: Tree, *, cut: bool, tail: Tree = None, length: int | None = None) -> None:
        self.tree, self.cut, self.tail, self.length = tree, cut, tail, length


def shown(reader: Reader, value: Serialized, limits: Limits | None) -> Shown:
    """A stored value as a tree; for a long list the first and last items, with a note on those between.

    Args:
        limits: limits of the tree; None: all.
    """
    if limits is not None and (found := pieces(value, _at_each_end(limits))) is not None:
        head, tail = reader.load(found.head), reader.load(found.tail)
        if isinstance(head, list) and isinstance(tail, list):
            return _of_ends(head, tail, found.length, limits)
    return of_value(reader.load(value), limits)


def of_value(loaded: Any, limits: Limits | None) -> Shown:
    """A decoded value, as `shown`."""
    if isinstance(loaded, _DeltaSnapshot):
        loaded = loaded.value
    if limits is None:
        return Shown(as_tree(loaded), cut=False)
    if type(loaded) in (list, tuple):
        length, end = len(loaded), _at_each_end(limits)
        if length > limits.items:
            return _of_ends(loaded[:end], loaded[-end:], length, limits)
        return _of_ends((), loaded, length, limits)
    limits.is_cut = False
    tree = as_tree(loaded, limits)
    return Shown(tree, cut=limits.is_cut)


def _at_each_end(limits: Limits) -> int:
    return max(1, limits.items // 2)


def _of_ends(head: Sequence[Any], tail: Sequence[Any], length: int, limits: Limits) -> Shown:
    """A list, given its first and last items. The last ones are converted first: they matter in a conversation."""
    limits.is_cut = False
    last = _fitting(tail[::-1], limits)[::-1]
    first = _fitting(head, limits)
    if more := length - len(first) - len(last):
        between = {"$type": LEFT_OUT, "why": f"{more:,} more item{'' if more == 1 else 's'}"}
        return Shown([*first, between, *last], cut=True, tail=last, length=length)
    return Shown([*first, *last], cut=limits.is_cut)


def _fitting(items: Sequence[Any], limits: Limits) -> list[Tree]:
    """As many items as the limits allow, each with its fields: a message without fields is useless."""
    trees: list[Tree] = []
    for item in items:
        needed = ITEM_CHARS if isinstance(item, _SCALARS) else ENOUGH
        if limits.total < needed and len(trees) >= FEWEST_ITEMS:
            break
        limits.total -= ITEM_CHARS
        trees.append(as_tree(item, limits))
    return trees


def show_all(
    show: Mapping[str, Callable[[Limits], Shown]], limits: Limits, messages: Limits
) -> tuple[dict[str, Shown], dict[str, Any] | None]:
    """The values of some channels, and the conversation of the one that has one: ``messages``, or else the first.

    Args:
        show: converts a channel's value, within limits.
        limits: of all values except the conversation.
        messages: limits of the conversation, which is shown however large the other channels are.
    """
    values: dict[str, Shown] = {}
    found: dict[str, Any] | None = None
    for name in sorted(show, key=lambda name: name != "messages"):
        if found is None and not is_internal(name):
            own = messages.fresh()
            value = show[name](own)
            if (talk := conversation(value)) is not None:
                found = {"channel": name, "messages": list(map(message_document, talk[0])), "left_out": talk[1]}
                values[name] = value
                continue
            if (used := messages.total - own.total) <= limits.total:
                limits.total -= used
                values[name] = value
                continue
        values[name] = show[name](limits)
    return {name: values[name] for name in show}, found


def conversation(value: Shown) -> tuple[list[Message], int] | None:
    """The messages of a list of messages, and the number of omitted earlier ones; None for any other value."""
    tree = value.tree if value.tail is None else value.tail
    if not isinstance(tree, list) or (messages := as_conversation(tree)) is None:
        return None
    length = len(messages) if value.length is None else value.length
    messages = messages[-MOST_MESSAGES:]
    return messages, length - len(messages)


def message_document(message: Message) -> dict[str, Any]:
    """A message as JSON."""
    return {
        "role": message.role,
        "text": "\n".join(part for part in message.parts if isinstance(part, str)),
        "blocks": [part for part in message.parts if not isinstance(part, str)],
        "name": message.name,
        "id": message.id,
        "tool_calls": [{"name": call.name, "args": call.arguments, "id": call.id} for call in message.calls],
        "tool_call_id": message.tool_call_id,
        "tokens": message.tokens,
        "model": message.model,
        "error": message.is_error,
    }
