"""Graphs that the example lacks: LangGraph's server loads them beside it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph

__all__ = ["delta", "slow"]


def _join(notes: list[str], more: list[list[str]]) -> list[str]:
    return [*notes, *(note for each in more for note in each)]


class Notes(TypedDict):
    """No snapshot before a thousand updates: what is read is replayed from the writes."""

    notes: Annotated[list[str], DeltaChannel(_join, snapshot_frequency=1000)]


def begin(state: Notes) -> dict[str, list[str]]:
    return {"notes": [f"begun with {len(state['notes'])}"]}


async def wait(state: Notes) -> dict[str, Any]:
    """As long as it is not cancelled."""
    await asyncio.Event().wait()
    return {}


builder = StateGraph(Notes)
builder.add_node(begin)
builder.add_edge(START, "begin")
delta = builder.compile()

builder.add_node(wait)
builder.add_edge("begin", "wait")
slow = builder.compile()
