"""LangGraph's own channels and tasks: their names, and what they say about the next step."""

from __future__ import annotations

from collections.abc import Mapping

from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, TASKS

from langgraph.checkpoint.eventlog.cli.render.plain import Tree

__all__ = ["ERROR", "INTERRUPT", "SPECIAL", "next_nodes", "node_of"]

START, BRANCH, JOIN = "__start__", "branch:to:", "join:"

#: Internal channels that are shown nevertheless, and their names for people.
SPECIAL = {INTERRUPT: "interrupt", ERROR: "error", RESUME: "resume"}


def node_of(path: str) -> str:
    """The node that a task runs, where its path says it; else the path."""
    kind, _, name = path.partition(", ")
    return name if kind == "~__pregel_pull" else path


def next_nodes(channels: Mapping[str, Tree]) -> list[str]:
    """The nodes that run next, as far as the channels tell: each has one of its own, or waits for several others."""
    nodes = [START] if START in channels else []
    for name, value in channels.items():
        if name.startswith(BRANCH):
            nodes.append(name.removeprefix(BRANCH))
        elif name.startswith(JOIN):
            awaited, _, node = name.removeprefix(JOIN).rpartition(":")
            if isinstance(value, dict) and value.get("value") == sorted(awaited.split("+")):
                nodes.append(node)
        elif name == TASKS and isinstance(value, list):
            nodes += [each["node"] for each in value if isinstance(each, dict) and isinstance(each.get("node"), str)]
    return nodes
