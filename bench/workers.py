"""Workers that call a saver in parallel for a while: threads, or tasks of an event loop.

Each worker runs conversations of twenty steps. A step is a `put` of the state with one more message, the `put_writes`
of the task that makes the next message, and a `get_tuple`: three operations, one after the other. Then the next
conversation begins on a new thread or, when all workers share one thread, at the beginning of that thread.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol

from bench.conversation import prose
from bench.floors import Encoded, Floors
from bench.race import thread

__all__ = ["STEPS", "AsyncFloor", "Floor", "Sizes", "Worker", "rate", "rate_async", "states"]

#: Of one conversation.
STEPS = 20
#: That a step makes.
OPERATIONS = 3


def states() -> list[list[AnyMessage]]:
    """The messages after each step."""
    messages: list[AnyMessage] = [
        AIMessage(prose(("answer", number), 400), id=f"m{number}")
        if number % 2
        else HumanMessage(prose(("question", number), 80), id=f"m{number}")
        for number in range(STEPS)
    ]
    return [messages[: number + 1] for number in range(STEPS)]


class Worker:
    """The calls of one worker.

    Args:
        name: of its threads, or of the one.
        states: as `states()` made them; the worker changes nothing in them.
        shares: whether others work on the thread of that name.
    """

    def __init__(self, name: str, states: list[list[AnyMessage]], *, shares: bool = False) -> None:
        self._name = name
        self._states = states
        self._shares = shares

    def steps(self) -> Iterator[Step]:
        """Without end."""
        next_version = InMemorySaver().get_next_version
        for conversation in itertools.count():
            thread_id = self._name if self._shares else f"{self._name}, {conversation}"
            config: Any = thread(thread_id)
            version: Any = None
            for number, messages in enumerate(self._states):
                version = next_version(version, None)
                checkpoint: dict[str, Any] = {
                    **empty_checkpoint(),
                    "v": 4,
                    "channel_values": {"messages": messages},
                    "channel_versions": {"messages": version},
                }
                metadata = {"source": "loop", "step": number, "parents": {}}
                saved = thread(thread_id, checkpoint["id"])
                yield Step(
                    put=(config, checkpoint, metadata, {"messages": version}),
                    put_writes=(saved, [("messages", messages[-1:])], f"task-{number}"),
                    # On a shared thread the latest checkpoint may be another worker's.
                    get_tuple=saved if self._shares else thread(thread_id),
                )
                config = saved


class Step(NamedTuple):
    """The arguments of three calls."""

    put: tuple[Any, ...]
    put_writes: tuple[Any, ...]
    get_tuple: Any

    def check(self, found: CheckpointTuple | None) -> None:
        """Raises SystemExit when what was read is not what was put: nothing measured would count."""
        _, checkpoint, _, _ = self.put
        if found is None or found.checkpoint["id"] != checkpoint["id"]:
            raise SystemExit("a worker did not read what it wrote")


# --- the floor


class Sizes(NamedTuple):
    """Bytes that our saver appends: what the floor inserts."""

    put: int
    put_writes: int


class Floor:
    """The same round trips with one-row inserts and ``select 1``, and the serializer's work; for one worker.

    Args:
        floors: see `bench.floors`; shared by all.
        encoded: the state after each step, for reading.
        sizes: of the rows.
    """

    def __init__(self, floors: Floors, encoded: list[Encoded], sizes: Sizes) -> None:
        self._floors = floors
        self._encoded = encoded
        self._put = floors.body(sizes.put)
        self._put_writes = floors.body(sizes.put_writes)
        self._last: Any = None

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> None:
        """Serialize, insert a row."""
        self._last = checkpoint
        self._floors.put(checkpoint["channel_values"], new_versions, self._put)

    def put_writes(self, config: Any, writes: Any, task_id: str) -> None:
        """Serialize, insert a row."""
        self._floors.put_writes(writes, self._put_writes)

    def get_tuple(self, config: Any) -> CheckpointTuple:
        """Ask for nothing, decode."""
        self._floors.get(self._encoded[len(self._last["channel_values"]["messages"]) - 1])
        return CheckpointTuple(config, self._last, {})


class AsyncFloor:
    """As `Floor`, on an async pool of a database that has a table `bench_floor`."""

    def __init__(self, pool: Any, serde: SerializerProtocol, encoded: list[Encoded], sizes: Sizes) -> None:
        self._pool = pool
        self._serde = serde
        self._encoded = encoded
        self._put = os.urandom(sizes.put)
        self._put_writes = os.urandom(sizes.put_writes)
        self._last: Any = None

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> None:
        """Serialize, insert a row."""
        self._last = checkpoint
        for channel in new_versions:
            self._serde.dumps_typed(checkpoint["channel_values"][channel])
        await self._insert(checkpoint["id"], self._put)

    async def aput_writes(self, config: Any, writes: Any, task_id: str) -> None:
        """Serialize, insert a row."""
        for _, value in writes:
            self._serde.dumps_typed(value)
        await self._insert(f"{self._last['id']}, {task_id}", self._put_writes)

    async def aget_tuple(self, config: Any) -> CheckpointTuple:
        """Ask for nothing, decode."""
        async with self._pool.connection() as conn:
            await (await conn.execute("select 1")).fetchone()
        for each in self._encoded[len(self._last["channel_values"]["messages"]) - 1]:
            self._serde.loads_typed(each)
        return CheckpointTuple(config, self._last, {})

    async def _insert(self, key: str, body: bytes) -> None:
        async with self._pool.connection() as conn:
            await conn.execute("insert into bench_floor (key, body) values (%s, %s)", (key, body))


# --- at work


def rate(savers: list[Any], workers: list[Worker], seconds: float) -> float:
    """Operations per second of several workers, each a thread with a saver; all may share one saver."""

    def work(saver: Any, worker: Worker) -> int:
        done = 0
        for step in worker.steps():
            saver.put(*step.put)
            saver.put_writes(*step.put_writes)
            step.check(saver.get_tuple(step.get_tuple))
            done += OPERATIONS
            if time.perf_counter() >= until:
                break
        return done

    with ThreadPoolExecutor(len(workers)) as executor:
        began = time.perf_counter()
        until = began + seconds
        done = sum(executor.map(work, savers, workers))
        return done / (time.perf_counter() - began)


async def rate_async(savers: list[Any], workers: list[Worker], seconds: float) -> float:
    """As `rate`, for workers that are tasks."""

    async def work(saver: Any, worker: Worker) -> int:
        done = 0
        for step in worker.steps():
            await saver.aput(*step.put)
            await saver.aput_writes(*step.put_writes)
            step.check(await saver.aget_tuple(step.get_tuple))
            done += OPERATIONS
            if time.perf_counter() >= until:
                break
        return done

    began = time.perf_counter()
    until = began + seconds
    done = sum(await asyncio.gather(*map(work, savers, workers)))
    return done / (time.perf_counter() - began)
