"""Threads that live and end, for `soak.py`: real graphs, run by threads and tasks that share two savers.

A turn fans out to three parallel tasks, runs an agent with a tool in a subgraph, and every third turn stops at an
interrupt and is resumed. A thread lives for some turns. Then it is deleted, pruned, or left idle; the oldest idle
thread is deleted when there are too many. Readers read the idle threads.
"""

from __future__ import annotations

import asyncio
import operator
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, interrupt

from bench.conversation import agent, prose, question
from eventlog.errors import ThreadDeletedError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from projections.usage import Usage

__all__ = ["Lifetimes", "graph"]

TASKS = 3
#: One of so many turns waits for an approval.
APPROVED = 3
#: The largest number of idle threads; with one more, the oldest is deleted.
MOST_LIVING = 60
#: A thread's last turn is one of these.
TURNS = range(3, 9)
#: How often, in seconds, partitions are looked at that retention might drop.
RETAIN_SECONDS = 15.0
#: How often, in seconds, the log is sealed, and its projections are rebuilt.
SEAL_SECONDS = 20.0
REBUILD_SECONDS = 60.0


class _State(MessagesState):
    found: Annotated[list[str], operator.add]
    turn: int
    number: int
    """Of a parallel task: no node sets it."""


def graph(checkpointer: BaseCheckpointSaver[Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Parallel tasks, then an agent in a subgraph, then perhaps an interrupt."""

    def plan(state: _State) -> dict[str, Any]:
        return {"turn": state.get("turn", 0) + 1}

    def fan_out(state: _State) -> list[Send]:
        return [Send("search", {"turn": state["turn"], "number": number}) for number in range(TASKS)]

    def search(state: _State) -> dict[str, Any]:
        return {"found": [prose((state["turn"], state["number"]), 200)]}

    def approve(state: _State) -> dict[str, Any]:
        return {"found": [interrupt({"approve": state["turn"]})]} if state["turn"] % APPROVED == 0 else {}

    builder = StateGraph(_State)
    builder.add_node("plan", plan)
    builder.add_node("search", search)
    builder.add_node("talk", agent(None))
    builder.add_node("approve", approve)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", fan_out, ["search"])
    builder.add_edge("search", "talk")
    builder.add_edge("talk", "approve")
    builder.add_edge("approve", END)
    return builder.compile(checkpointer=checkpointer)


def _config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


@dataclass
class Lifetimes:
    """What all workers share.

    Args:
        saver, async_saver: of the threads and of the tasks.
        most_turns: no turn begins after so many.
    """

    saver: EventLogSaver
    async_saver: AsyncEventLogSaver
    most_turns: int
    turns: int = 0
    ended: int = 0
    """Threads that were deleted or pruned."""
    read: int = 0
    seals: int = 0
    rebuilds: int = 0
    followed: int = 0
    """Events that the follower got from the feed."""
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    """The times of the last turns."""
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _living: deque[str] = field(default_factory=deque)

    def _begin(self) -> bool:
        """Whether there is to be one more turn."""
        with self._lock:
            if self.turns >= self.most_turns:
                self.stopped.set()
            if self.stopped.is_set():
                return False
            self.turns += 1
            return True

    def _leave(self, thread_id: str, choice: random.Random) -> list[tuple[str, str]]:
        """The operations on a thread after its last turn, and on another thread that was idle for too long."""
        with self._lock:
            self.ended += 1
            what = choice.choice(["delete", "delete", "prune", "leave"])
            due = [(what, thread_id)] if what != "leave" else []
            if what != "delete":
                self._living.append(thread_id)
            if len(self._living) > MOST_LIVING:
                due.append(("delete", self._living.popleft()))
            return due

    def _any(self, choice: random.Random) -> str | None:
        with self._lock:
            return choice.choice(self._living) if self._living else None

    # --- workers

    def work(self, name: str) -> None:
        """One thread after the other, on the sync saver, until it is over."""
        choice, compiled = random.Random(name), graph(self.saver)
        for number in range(self.most_turns):
            thread_id = f"{name}, {number}"
            for turn in range(choice.choice(TURNS)):
                if not self._begin():
                    return
                began = time.perf_counter()
                if "__interrupt__" in compiled.invoke(question(turn), _config(thread_id)):
                    compiled.invoke(Command(resume="yes"), _config(thread_id))
                self.seconds.append(time.perf_counter() - began)
            for what, each in self._leave(thread_id, choice):
                if what == "delete":
                    self.saver.delete_thread(each)
                else:
                    self.saver.prune([each])

    async def work_async(self, name: str) -> None:
        """As `work`, on the async saver."""
        choice, compiled = random.Random(name), graph(self.async_saver)
        for number in range(self.most_turns):
            thread_id = f"{name}, {number}"
            for turn in range(choice.choice(TURNS)):
                if not self._begin():
                    return
                began = time.perf_counter()
                if "__interrupt__" in await compiled.ainvoke(question(turn), _config(thread_id)):
                    await compiled.ainvoke(Command(resume="yes"), _config(thread_id))
                self.seconds.append(time.perf_counter() - began)
            for what, each in self._leave(thread_id, choice):
                if what == "delete":
                    await self.async_saver.adelete_thread(each)
                else:
                    await self.async_saver.aprune([each])

    # --- readers

    def look(self) -> None:
        """List idle threads and read their history; from time to time drop old partitions."""
        choice, retained = random.Random("reader"), time.monotonic()
        while not self.stopped.wait(0.05):
            if (thread_id := self._any(choice)) is None:
                continue
            try:
                self.read += len(list(self.saver.list(_config(thread_id), limit=20)))
                self.read += len(list(self.saver.log.history(thread_id, limit=100)))
            except (ThreadDeletedError, ThreadNotFoundError):
                continue  # Another worker has deleted it.
            if time.monotonic() - retained > RETAIN_SECONDS:
                self.saver.log.retain(timedelta(days=90))
                retained = time.monotonic()

    def operate(self) -> None:
        """Seal the log and rebuild its projections, while the others work."""
        sealed = rebuilt = time.monotonic()
        while not self.stopped.wait(0.5):
            if time.monotonic() - sealed > SEAL_SECONDS:
                self.saver.log.seal()
                self.seals, sealed = self.seals + 1, time.monotonic()
            if time.monotonic() - rebuilt > REBUILD_SECONDS:
                self.saver.log.rebuild()
                self.rebuilds, rebuilt = self.rebuilds + 1, time.monotonic()

    async def _follow(self) -> None:
        async for _ in self.async_saver.log.tail(follow=True, poll_interval=0.2):
            self.followed += 1

    async def run_async(self, workers: int) -> None:
        """Run tasks that work, one that follows the feed, and one that keeps a projection up to date."""
        followers = [asyncio.create_task(self._follow()), asyncio.create_task(self._project())]
        working = asyncio.create_task(self._work_together(workers))
        await asyncio.wait([working, *followers], return_when=asyncio.FIRST_COMPLETED)
        self.stopped.set()
        for follower in followers:
            follower.cancel()
        await working
        for ended in await asyncio.gather(*followers, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise SystemExit(f"the follower of the log has stopped: {ended!r}")

    async def _project(self) -> None:
        await self.async_saver.log.project(Usage(), follow=True, poll_interval=0.2)

    async def _work_together(self, workers: int) -> None:
        await asyncio.gather(*(self.work_async(f"task {number}") for number in range(workers)))
