"""LangGraph's own channels and tasks: their names, and the next step that follows from them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, TASKS

from langgraph.checkpoint.eventlog.viewing.plain import Tree

__all__ = [
    "CONTROL",
    "ERROR",
    "INTERRUPT",
    "NULL_TASK",
    "RESUME",
    "SPECIAL",
    "finished_tasks",
    "next_nodes",
    "node_of",
]

START, BRANCH, JOIN = "__start__", "branch:to:", "join:"

#: Internal channels that are shown nevertheless, and their names for people.
SPECIAL = {INTERRUPT: "interrupt", ERROR: "error", RESUME: "resume"}


#: What tells of a task, and is no output of it: LangGraph's `CONTROL_WRITES`.
CONTROL: Final = frozenset((ERROR, "__error_source_node__", INTERRUPT, RESUME))

#: Writes to these are input of the step, and of no task.
NULL_TASK: Final = "00000000-0000-0000-0000-000000000000"

_PULL: Final = "~__pregel_pull, "
_PUSH: Final = "~__pregel_push, "

#: With the durability "exit", the step stands before the path of a task of a later step.
_LATE: Final = re.compile(r"~~\d{10}(?=~)")


def node_of(path: str) -> str:
    """The node that a task runs, if its path names it; else the path, without the step in front of it."""
    path = _LATE.sub("", path, count=1)
    return path.removeprefix(_PULL)


def finished_tasks(writes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The paths of finished tasks, by their ids: as in LangGraph, a task with an output has finished."""
    return {
        write["task_id"]: write["task_path"]
        for write in writes
        if write["channel"] not in CONTROL and write["task_id"] != NULL_TASK
    }


def next_nodes(channels: Mapping[str, Tree], finished: Collection[str] = ()) -> list[str]:
    """The nodes that run next, as far as the channels show: each has its own channel, or waits for several others.

    Args:
        finished: paths of tasks that have already run. They are omitted if another task waits. If all have run, the
            step is over, and they are returned.
    """
    nodes = [START] if START in channels else []
    for name, value in channels.items():
        if name.startswith(BRANCH):
            nodes.append(name.removeprefix(BRANCH))
        elif name.startswith(JOIN):
            awaited, _, node = name.removeprefix(JOIN).rpartition(":")
            if isinstance(value, dict) and value.get("value") == sorted(awaited.split("+")):
                nodes.append(node)
    tasks = [(node, _PULL + node) for node in nodes]
    sends = channels.get(TASKS)
    for index, each in enumerate(sends if isinstance(sends, list) else ()):
        if isinstance(each, dict) and isinstance(each.get("node"), str):
            tasks.append((each["node"], f"{_PUSH}{index:010d}"))
    # The path of a task that was sent continues after its number.
    done = {",".join(path.split(",")[:2]) if path.startswith(_PUSH) else path for path in finished}
    return [node for node, path in tasks if path not in done] or [node for node, _ in tasks]
