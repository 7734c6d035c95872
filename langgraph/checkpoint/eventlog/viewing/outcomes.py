"""The outcomes of a checkpoint's tasks, from their writes: interrupts with their answers, and errors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from langgraph.checkpoint.eventlog.viewing.channels import ERROR, INTERRUPT, NULL_TASK, RESUME
from langgraph.checkpoint.eventlog.viewing.plain import Tree

__all__ = ["errors_of", "interrupts_in", "interrupts_of"]


def interrupts_in(tree: Tree) -> list[dict[str, Tree]]:
    """The interrupts in a task's write: LangGraph's objects, or other data that was written there.

    `schema` is the schema of the answer, if the graph gave one.
    """
    found = []
    for each in tree if isinstance(tree, list) else [tree]:
        if isinstance(each, dict) and "value" in each and str(each.get("$type", "")).endswith("Interrupt"):
            id_ = each.get("id", each.get("interrupt_id"))
            id_ = id_ if isinstance(id_, str) else None
            found.append({"id": id_, "value": each["value"], "schema": each.get("response_schema")})
        else:
            found.append({"id": None, "value": each, "schema": None})
    return found


def interrupts_of(writes: Sequence[dict[str, Any]], finished: Collection[str]) -> list[dict[str, Any]]:
    """The interrupts of all tasks. Those of finished tasks were answered.

    Args:
        writes: documents, in LangGraph's order.
        finished: ids of tasks.
    """
    answers = {write["task_id"]: write for write in writes if write["channel"] == RESUME}
    found = []
    for write in writes:
        if write["channel"] != INTERRUPT:
            continue
        is_answered = write["task_id"] in finished
        # In a resumed run, the answer belongs to the task; if its write does not name a task, to the step.
        answer = answers.get(write["task_id"]) or answers.get(NULL_TASK) if is_answered else None
        for interrupt in interrupts_in(write["value"]):
            found.append(
                {
                    **interrupt,
                    "task_id": write["task_id"],
                    "node": write["node"],
                    "time": write["time"],
                    "answered": is_answered,
                    "answered_by": None if answer is None else answer["actor"],
                    "answered_at": None if answer is None else answer["time"],
                    "answer": None if answer is None else _last(answer["value"]),
                }
            )
    return found


def _last(answers: Tree) -> Tree:
    """The last answer. A task with several interrupts has its answers in order, the last one to its last interrupt."""
    return answers[-1] if isinstance(answers, list) and answers else answers


def errors_of(writes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The errors that tasks failed with. LangGraph stores their texts, and no traceback."""
    return [
        {
            "node": write["node"],
            "task_id": write["task_id"],
            "time": write["time"],
            "text": _error_text(write["value"]),
        }
        for write in writes
        if write["channel"] == ERROR
    ]


def _error_text(value: Tree) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return f"{value.get('$type', 'error')}: {value.get('message', value.get('value', ''))}"
    return str(value)
