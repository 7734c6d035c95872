"""Finds the checkpoint that an argument means: a thread's latest, or one by its id or the beginning of its id."""

from __future__ import annotations

from eventlog.errors import InvalidInputError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import CheckpointName, EventLog
from langgraph.checkpoint.eventlog.cli.render.output import printable

__all__ = ["find_checkpoint", "latest_or_named"]

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
