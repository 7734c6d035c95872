"""Finds what an argument means: a thread's latest checkpoint, one by its id, or an object of the user's code."""

from __future__ import annotations

import os
import pkgutil
import sys
from typing import Any

from eventlog.errors import InvalidInputError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import CheckpointName, EventLog
from langgraph.checkpoint.eventlog.cli.render.output import printable

__all__ = ["checkpoint_of_step", "find_checkpoint", "latest_or_named", "named_object"]

#: Candidates that a message names.
MOST = 6


def latest_or_named(log: EventLog, name: str, ns: str | None) -> CheckpointName:
    """The thread's latest checkpoint, or the only one of any thread with this id; raises as `find_checkpoint`."""
    if there := log.namespaces(name):
        if (latest := there.get(ns or "")) is not None:
            return CheckpointName(name, ns or "", latest)
        others = ", ".join([repr(each) for each, id_ in there.items() if id_ is not None][:MOST])
        hint = f"; it has checkpoints in {others}: give one of them with --ns" if others else ""
        raise ThreadNotFoundError(f"thread {name!r} has no checkpoint{_in_namespace(ns or '')}{hint}")
    found = [each for each in log.find(name, limit=MOST) if ns is None or each.checkpoint_ns == ns]
    if not found:
        raise ThreadNotFoundError(f"no thread has the id {name!r}, and no checkpoint id begins with it")
    return _only(found, name, "give the thread as well")


def find_checkpoint(log: EventLog, thread_id: str, checkpoint_id: str, ns: str | None) -> CheckpointName:
    """The checkpoint of a thread with this id, or the only one that has an id with this beginning.

    Raises ThreadNotFoundError for none, with those of other threads; InvalidInputError for several.
    """
    if found := log.find(checkpoint_id, thread_id=thread_id, checkpoint_ns=ns, limit=MOST):
        return _only(found, checkpoint_id, "give more of it, or the namespace with --ns")
    if not log.namespaces(thread_id):
        raise ThreadNotFoundError(f"no thread has the id {thread_id!r}")
    elsewhere = log.find(checkpoint_id, limit=MOST)
    hint = f"; the log has {_listed(elsewhere)}" if elsewhere else ""
    raise ThreadNotFoundError(f"thread {thread_id!r} has no checkpoint {checkpoint_id!r}{_in_namespace(ns)}{hint}")


def checkpoint_of_step(log: EventLog, thread_id: str, step: int, ns: str | None) -> tuple[CheckpointName, str | None]:
    """The checkpoint of a step on the branch of the latest one, and a note where other branches have that step too.

    Raises ThreadNotFoundError for none; InvalidInputError where only other branches have one.
    """
    found = log.find_step(thread_id, step, checkpoint_ns=ns or "", limit=MOST)
    if not found:
        if not log.namespaces(thread_id):
            raise ThreadNotFoundError(f"no thread has the id {thread_id!r}")
        raise ThreadNotFoundError(
            f"thread {thread_id!r} has no checkpoint of step {step}{_in_namespace(ns or '')}; "
            "'eventlog history THREAD --tree' shows all of them"
        )
    this, *others = [CheckpointName(*each[:3]) for each in found]
    ids = [*(printable(each.checkpoint_id) for each in others), *(["…"] if len(found) == MOST else [])]
    if not found[0].is_on_latest_branch:
        raise InvalidInputError(
            f"step {step} is not on the branch of the latest checkpoint. Other branches have it: give the id of a "
            f"checkpoint instead of the step: {', '.join([printable(this.checkpoint_id), *ids])}"
        )
    if not others:
        return this, None
    return this, (
        f"Several checkpoints are of step {step}. This is {printable(this.checkpoint_id)}, on the branch of the latest "
        f"one. For another, give its id instead of the step: {', '.join(ids)}"
    )


def _only(found: list[CheckpointName], id_: str, remedy: str) -> CheckpointName:
    """The one with this id, or else the only one; raises InvalidInputError."""
    found = [each for each in found if each.checkpoint_id == id_] or found
    if len(found) > 1:
        raise InvalidInputError(
            f"several checkpoints have an id that begins with {id_!r}: {remedy}. They are: {_listed(found)}"
        )
    return found[0]


def _in_namespace(ns: str | None) -> str:
    return "" if ns is None else f" in namespace {ns!r}" if ns else " in the root graph's namespace"


def _listed(names: list[CheckpointName]) -> str:
    texts = [
        f"{printable(each.checkpoint_id)} of thread {each.thread_id!r}"
        + (f", namespace {each.checkpoint_ns!r}" if each.checkpoint_ns else "")
        for each in names
    ]
    return ", ".join(texts if len(names) < MOST else [*texts[:-1], "…"])


def named_object(name: str, what: str) -> Any:
    """The object that ``package.module:Name`` names, which is imported. Raises InvalidInputError.

    Args:
        what: it should be, for the message.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InvalidInputError(f"{name!r} is not {what} package.module:Name of one of your own")
    # A command's own path has no current directory, where one's own modules are.
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise InvalidInputError(f"{name!r} cannot be imported: {type(exc).__name__}: {exc}") from exc
