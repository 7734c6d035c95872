"""The values of `DeltaChannel`s, of which LangGraph stores only the writes, as far as they can be determined.

The graph's reducer makes such a value, and the log does not know the reducer. Conversations are put together as in
LangGraph, by the ids of messages. For other channels the last stored value and the writes since are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from eventlog.format.strict import TYPE
from langgraph.checkpoint.eventlog.viewing.messages import as_conversation
from langgraph.checkpoint.eventlog.viewing.plain import Limits, as_tree
from langgraph.checkpoint.eventlog.viewing.reader import Reader

__all__ = ["delta_channels", "delta_values"]

#: Channels that are put together for one checkpoint.
MOST_CHANNELS = 10

#: LangGraph's name for all messages, in a message that removes some.
REMOVE_ALL = "__remove_all__"


def delta_channels(metadata: Any, stored: Iterable[str]) -> list[str]:
    """The channels of a checkpoint without a stored value, according to its metadata."""
    counters = metadata.get("counters_since_delta_snapshot") if isinstance(metadata, Mapping) else None
    return sorted(counters.keys() - set(stored)) if isinstance(counters, Mapping) else []


async def delta_values(reader: Reader, config: RunnableConfig, names: list[str]) -> dict[str, Any]:
    """The values of these channels at a checkpoint: a list of messages, or ``{"seed": …, "writes": […]}``."""
    wanted = names[:MOST_CHANNELS]
    if not wanted:
        return {}
    found = await reader.ask(lambda: reader.states.delta_channel_history(config, wanted))
    values: dict[str, Any] = {}
    for name, history in found.items():
        seed = history.get("seed")
        seed = seed.value if isinstance(seed, _DeltaSnapshot) else seed
        writes = [value for _, _, value in history["writes"]]
        messages = _conversation(seed, writes)
        values[name] = {"seed": seed, "writes": writes} if messages is None else messages
    return values


def _conversation(seed: Any, writes: list[Any]) -> list[Any] | None:
    """A conversation after applying writes; None if they are not messages."""
    messages: dict[Any, Any] = {}
    for write in ([] if seed is None else [seed]) + writes:
        if (replacement := _replacement(write)) is not None:
            messages.clear()
            write = replacement[0]
        for each in write if isinstance(write, list) else [write]:
            id_ = each.id if isinstance(each, BaseMessage) else each.get("id") if isinstance(each, dict) else None
            role = each.type if isinstance(each, BaseMessage) else each.get("type") if isinstance(each, dict) else None
            if role == "remove":
                if id_ == REMOVE_ALL:
                    messages.clear()
                messages.pop(id_, None)
                continue
            messages[id_ if isinstance(id_, str) else object()] = each
    found = list(messages.values())
    # Checking a few is enough: the page shows them in any case.
    return found if found and as_conversation(as_tree(found[-3:], Limits())) is not None else None


def _replacement(write: Any) -> tuple[Any] | None:
    """The new value in LangGraph's `Overwrite`."""
    if isinstance(write, dict):
        if set(write) == {"__overwrite__"}:
            return (write["__overwrite__"],)
        if str(write.get(TYPE, "")).endswith(".Overwrite"):
            return (write.get("value"),)
    if type(write).__name__ == "Overwrite" and hasattr(write, "value"):
        return (write.value,)
    return None
