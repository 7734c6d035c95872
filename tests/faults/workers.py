"""Graphs that run while something breaks, and what their savers told them: it is compared with the log afterwards.

Every worker drives a real graph on a thread of its own, turn after turn, and goes on after an error as an application
would: it looks where the thread stands, and resumes. `durability="sync"` makes LangGraph wait for each checkpoint, so
that what a worker was told is what was acknowledged.
"""

from __future__ import annotations

import asyncio
import operator
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Interrupt, Send, interrupt

from demo.agent import ScriptedModel
from eventlog.errors import EventLogError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver

__all__ = ["ASKS", "AsyncRecording", "Record", "Recording", "Worker", "expected"]

#: How many parallel tasks a turn has.
TASKS = 3

#: What a worker waits between turns, and after an error, in seconds: a tool or a model takes longer.
PAUSE = 0.05

#: LangGraph cannot interrupt async graphs before Python 3.11.
ASKS = {"sync": True, "async": sys.version_info >= (3, 11)}


class State(TypedDict, total=False):
    turn: int
    items: Annotated[list[str], operator.add]
    count: Annotated[int, operator.add]
    """How many items there are: a reader of half a step sees it differ."""
    messages: Annotated[list[AnyMessage], add_messages]


def _said(*items: str) -> State:
    return {"items": list(items), "count": len(items)}


def _model(state: State) -> State:
    turn = state["turn"]
    question = HumanMessage(f"What about nyc in turn {turn}?", id=f"question {turn}")
    answer = ScriptedModel().invoke([question])
    return {"messages": [question, AIMessage(answer.content, id=f"answer {turn}")]}


def graph(saver: Any, *, asks: bool) -> Any:
    """A step with a model, parallel tasks, and one that joins them; or, in its place, one that asks first."""
    builder = StateGraph(State)
    builder.add_node("model", _model)
    builder.add_node("work", lambda task: _said(task))
    builder.add_node("join", lambda state: _said(f"{state['turn']} joined"))
    builder.add_edge(START, "model")
    builder.add_conditional_edges(
        "model", lambda state: [Send("work", f"{state['turn']}.{n}") for n in range(TASKS)], ["work"]
    )
    if asks:
        builder.add_node("ask", lambda state: _said(f"{state['turn']} told {interrupt('tell me')}"))
        builder.add_edge("work", "ask")
        builder.add_edge("ask", "join")
    else:
        builder.add_edge("work", "join")
    return builder.compile(checkpointer=saver)


def expected(turns: int, *, asks: bool) -> list[str]:
    """What the items are after so many turns, however often one was begun."""
    return [
        item
        for turn in range(1, turns + 1)
        for item in (
            f"{turn} begun",
            *(f"{turn}.{n}" for n in range(TASKS)),
            *([f"{turn} told {turn}"] if asks else []),
            f"{turn} joined",
        )
    ]


@dataclass
class Record:
    """What savers have acknowledged."""

    puts: dict[tuple[str, str, str], tuple[Checkpoint, CheckpointMetadata]] = field(default_factory=dict)
    writes: dict[tuple[str, str, str], dict[tuple[str, int], tuple[str, Any]]] = field(default_factory=dict)
    """By checkpoint, and by task and number: channel and value."""

    def put(self, stored: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata) -> None:
        self.puts[_key(stored)] = (deepcopy(checkpoint), deepcopy(metadata))

    def wrote(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str) -> None:
        known = self.writes.setdefault(_key(config), {})
        for number, (channel, value) in enumerate(writes):
            known[task_id, WRITES_IDX_MAP.get(channel, number)] = (channel, deepcopy(value))

    def missing(self, found: Mapping[tuple[str, str, str], Any], logged: Collection[tuple[str, str, str]]) -> list[str]:
        """What was acknowledged and is not there, or not as it was, or more than once.

        Args:
            logged: checkpoints that the log has writes of. LangGraph saves writes while their checkpoint is being
                saved; where that failed, they are in the log, and no reader asks for them.
        """
        problems = []
        for key, (checkpoint, metadata) in self.puts.items():
            there = found.get(key)
            if there is None:
                problems.append(f"checkpoint {key} is lost")
            elif there.checkpoint["channel_values"] != checkpoint["channel_values"]:
                problems.append(f"checkpoint {key} has other values")
            elif there.checkpoint["channel_versions"] != checkpoint["channel_versions"]:
                problems.append(f"checkpoint {key} has other versions")
            elif any(there.metadata.get(name) != value for name, value in metadata.items()):
                problems.append(f"checkpoint {key} has other metadata")
        for key, writes in self.writes.items():
            if key not in found and key not in self.puts and key in logged:
                continue
            there = found.get(key)
            pending = there.pending_writes if there else []
            held = Counter((task, channel, _comparable(value)) for task, channel, value in pending)
            wanted = Counter((task, channel, _comparable(value)) for (task, _), (channel, value) in writes.items())
            problems += [
                f"write {each} of {key} is there {held[each]} times instead of {number}"
                for each, number in wanted.items()
                if held[each] != number
            ]
        return problems


def _comparable(value: Any) -> str:
    """A text that is the same before a value was stored and after. Tuples become lists, and not all is
    stored of an interrupt."""
    if isinstance(value, (tuple, list)) and value and all(isinstance(each, Interrupt) for each in value):
        return repr([(each.value, each.id) for each in value])
    return repr(list(value) if isinstance(value, tuple) else value)


def _key(config: RunnableConfig) -> tuple[str, str, str]:
    named = config["configurable"]
    return named["thread_id"], named["checkpoint_ns"], named["checkpoint_id"]


class Recording(EventLogSaver):
    """A saver that keeps what it acknowledged."""

    record: Record

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        stored = super().put(config, checkpoint, metadata, new_versions)
        self.record.put(stored, checkpoint, metadata)
        return stored

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        super().put_writes(config, writes, task_id, task_path)
        self.record.wrote(config, writes, task_id)


class AsyncRecording(AsyncEventLogSaver):
    """A saver that keeps what it acknowledged."""

    record: Record

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        stored = await super().aput(config, checkpoint, metadata, new_versions)
        self.record.put(stored, checkpoint, metadata)
        return stored

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await super().aput_writes(config, writes, task_id, task_path)
        self.record.wrote(config, writes, task_id)


@dataclass
class Worker:
    """One thread of a graph, run turn after turn until it is told to stop and has finished its turn.

    Args:
        saver: a `Recording` or an `AsyncRecording`.
        thread_id: the thread of the graph.
        asks: whether the graph asks in every turn.
    """

    saver: Any
    thread_id: str
    asks: bool
    turns: int = 0
    """How many are finished."""
    errors: list[EventLogError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._graph = graph(self.saver, asks=self.asks)
        self._config: RunnableConfig = {"configurable": {"thread_id": self.thread_id}}

    def run(self, stop: threading.Event) -> None:
        """In a thread."""
        while True:
            try:
                found = self.saver.get_tuple(self._config)
                if self._has_finished(found):
                    if stop.is_set():
                        return
                    time.sleep(PAUSE)
                self._graph.invoke(self._next(found), self._config, durability="sync")
            except EventLogError as exc:
                self.errors.append(exc)
                time.sleep(PAUSE)

    async def arun(self, stop: threading.Event) -> None:
        """In a task."""
        while True:
            try:
                found = await self.saver.aget_tuple(self._config)
                if self._has_finished(found):
                    if stop.is_set():
                        return
                    await asyncio.sleep(PAUSE)
                await self._graph.ainvoke(self._next(found), self._config, durability="sync")
            except EventLogError as exc:
                self.errors.append(exc)
                await asyncio.sleep(PAUSE)

    def _has_finished(self, found: CheckpointTuple | None) -> bool:
        """Whether a turn is over, and the next is not begun.

        Not from the graph's `get_state`: it adds the writes of tasks to a step that is not over.
        """
        if found is None:
            return True
        items = found.checkpoint["channel_values"].get("items", [])
        if items[-1:] == [f"{self.turns + 1} joined"]:
            self.turns += 1
        is_over = not items or items[-1] == f"{self.turns} joined"
        return is_over and found.metadata["source"] != "input"

    def _next(self, found: CheckpointTuple | None) -> Any:
        """What to invoke the graph with: the next turn, an answer, or nothing, to go on where it was."""
        turn = self.turns + 1
        if found is None or self._has_finished(found):
            return {"turn": turn, **_said(f"{turn} begun")}
        if any(channel == INTERRUPT for _, channel, _ in found.pending_writes or ()):
            return Command(resume=turn)
        return None
