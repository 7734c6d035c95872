"""Running one graph on two checkpointers, and telling whether they remember the same.

Ids, times and version numbers differ from run to run. `rendered` writes a history as text in which
each is replaced by the order of its first appearance, so that equal texts mean equal histories.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Literal

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from tests.support.adapters import AsyncFace, open_saver

__all__ = ["LANGGRAPH", "MODES", "Mode", "Run", "in_context", "open_mode", "rendered"]

#: The version that is installed.
LANGGRAPH = tuple(int(part) for part in version("langgraph").split(".")[:3])

Mode = Literal["sync", "async"]
MODES: tuple[Mode, ...] = ("sync", "async")


@pytest.fixture
def in_context(mode: Mode) -> None:
    """For graphs that ask: `interrupt` and tasks find their run in a context that asyncio's tasks have since 3.11."""
    if mode == "async" and sys.version_info < (3, 11):
        pytest.skip("LangGraph cannot interrupt async graphs before Python 3.11")


@asynccontextmanager
async def open_mode(mode: Mode, uri: str, **settings: Any) -> AsyncIterator[Any]:
    """The sync or the async saver itself, on a pool."""
    async with open_saver(f"{mode}-pool", uri, **settings) as saver:
        yield saver.sync if isinstance(saver, AsyncFace) else saver


class Run:
    """One thread of a graph, through the graph's sync or its async methods."""

    def __init__(self, graph: CompiledStateGraph[Any, Any, Any, Any], mode: Mode, thread_id: str = "1") -> None:
        self.graph = graph
        self.mode = mode
        self.config: RunnableConfig = {"configurable": {"thread_id": thread_id}}

    async def invoke(self, value: Any, config: RunnableConfig | None = None, **options: Any) -> Any:
        if self.mode == "sync":
            return self.graph.invoke(value, config or self.config, **options)
        return await self.graph.ainvoke(value, config or self.config, **options)

    async def state(self, config: RunnableConfig | None = None, *, subgraphs: bool = False) -> StateSnapshot:
        if self.mode == "sync":
            return self.graph.get_state(config or self.config, subgraphs=subgraphs)
        return await self.graph.aget_state(config or self.config, subgraphs=subgraphs)

    async def history(self, config: RunnableConfig | None = None, **criteria: Any) -> list[StateSnapshot]:
        """Newest first."""
        if self.mode == "sync":
            return list(self.graph.get_state_history(config or self.config, **criteria))
        return [each async for each in self.graph.aget_state_history(config or self.config, **criteria)]

    async def update(
        self, values: Any, config: RunnableConfig | None = None, as_node: str | None = None
    ) -> RunnableConfig:
        if self.mode == "sync":
            return self.graph.update_state(config or self.config, values, as_node=as_node)
        return await self.graph.aupdate_state(config or self.config, values, as_node=as_node)

    async def stored(self) -> list[CheckpointTuple]:
        """All checkpoints of the thread: the root's newest first, then those of subgraphs."""
        saver: Any = self.graph.checkpointer
        if self.mode == "sync":
            found = list(saver.list(self.config))
        else:
            found = [each async for each in saver.alist(self.config)]
        found.sort(key=lambda each: each.config["configurable"]["checkpoint_id"], reverse=True)
        # Stable: within a namespace the order stays.
        return sorted(found, key=lambda each: _without_ids(each.config["configurable"]["checkpoint_ns"]))

    async def remembered(self) -> str:
        """Everything that LangGraph and the checkpointer say about the thread."""
        return rendered([(await self.history())[::-1], await self.state(subgraphs=True), (await self.stored())[::-1]])


_CHANGING = re.compile(
    r"(?P<version>\b\d{32}\.\d[\d.e-]*)"
    r"|(?P<id>\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b)"
    r"|(?P<time>\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.?\d*\+00:00)"
)

# LangGraph gives a message its id while the checkpointer is saving the write that holds it: either may win.
_RANDOM_MESSAGE_ID = re.compile(r", id='(lc_run--)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-\d+)?'")


def _without_ids(text: str) -> str:
    return _CHANGING.sub("", text)


def rendered(value: Any) -> str:
    """A text that is the same for the same history, one line for each part, to compare line by line."""
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        if found["time"]:
            return "<time>"
        if found["version"]:
            return f"<version {int(found[0].split('.')[0])}>"
        return names.setdefault(found[0], f"<id {len(names)}>")

    return _CHANGING.sub(name, "\n".join(_lines(value, "")))


def _lines(value: Any, path: str) -> list[str]:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        value = {"": type(value).__name__, **value._asdict()}
    if isinstance(value, Mapping) and type(value) is dict and value:
        # Savers keep channels in different orders; what is in a channel keeps its own, below.
        return [line for key in sorted(value, key=str) for line in _lines(value[key], f"{path}.{key}")]
    if isinstance(value, Sequence) and type(value) in (list, tuple) and value:
        return [line for number, each in enumerate(value) for line in _lines(each, f"{path}[{number}]")]
    return [f"{path} = {_RANDOM_MESSAGE_ID.sub('', repr(value))}"]
