"""Records LangGraph's calls of its checkpointer, so that every saver can get exactly the same calls.

In a graph, a saver's calls run in parallel with each other and with the graph, in threads that share one lock, so the
time of a call also depends on the others. Recorded calls can be made alone, by one saver after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver

__all__ = ["Call", "Recorder", "replay"]


class Call(NamedTuple):
    """One call: ``put``, ``put_writes`` or ``get_tuple``, and its arguments."""

    method: str
    args: tuple[Any, ...]


class Recorder(BaseCheckpointSaver[str]):
    """Keeps the latest checkpoint of one thread, and remembers every call since `take()`."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Call] = []
        self._latest: CheckpointTuple | None = None
        self._versions = InMemorySaver()

    def take(self) -> list[Call]:
        """The calls since the last time, in the order in which they began."""
        calls, self._calls = self._calls, []
        return calls

    def get_tuple(self, config: Any) -> CheckpointTuple | None:
        """The latest checkpoint, for any config."""
        self._calls.append(Call("get_tuple", (config,)))
        return self._latest

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """Keep it as the latest checkpoint."""
        self._calls.append(Call("put", (config, checkpoint, metadata, new_versions)))
        configurable = {**config["configurable"], "checkpoint_id": checkpoint["id"]}
        self._latest = CheckpointTuple({"configurable": configurable}, checkpoint, metadata, config, [])
        return {"configurable": configurable}

    def put_writes(self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Only recorded: a completed run leaves no writes for the next run."""
        self._calls.append(Call("put_writes", (config, list(writes), task_id, task_path)))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """As the savers of LangGraph have it."""
        return self._versions.get_next_version(current, channel)


def replay(race: Any, calls: Sequence[Call]) -> None:
    """Make the calls again, each by every saver of a race."""
    methods = {"put": race.put, "put_writes": race.put_writes, "get_tuple": race.get}
    for call in calls:
        methods[call.method](*call.args)
