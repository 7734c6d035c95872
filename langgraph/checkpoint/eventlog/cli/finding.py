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
        latest = there.get(ns or "")
        if latest is not None:
            return CheckpointName(name, ns or "", latest)
        others = [repr(each) for each, id_ in there.items() if id_ is not None]
        raise ThreadNotFoundError(
            f"thread {name!r} has no checkpoint{_in_namespace(ns or '')}"
            + (f"; it has checkpoints in {', '.join(others[:MOST])}: give one of them with --ns" if others else "")
        )
    found = _exact(name, [each for each in log.find(name, limit=MOST) if ns is None or each.checkpoint_ns == ns])
    if not found:
        raise ThreadNotFoundError(f"no thread has the id {name!r}, and no checkpoint id begins with it")
    if len(found) > 1:
        raise InvalidInputError(
            f"several checkpoints have an id that begins with {name!r}: give the thread as well. They are: "
            f"{_listed(found)}"
        )
    return found[0]


def find_checkpoint(log: EventLog, thread_id: str, checkpoint_id: str, ns: str | None) -> CheckpointName:
    """The checkpoint of a thread with this id, or the only one that has an id with this beginning.

    Raises ThreadNotFoundError for none, with those of other threads; InvalidInputError for several.
    """
    found = _exact(checkpoint_id, log.find(checkpoint_id, thread_id=thread_id, checkpoint_ns=ns, limit=MOST))
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInputError(
            f"several checkpoints of thread {thread_id!r} have an id that begins with {checkpoint_id!r}: give more of "
            f"it, or the namespace with --ns. They are: {_listed(found)}"
        )
    if not log.namespaces(thread_id):
        raise ThreadNotFoundError(f"no thread has the id {thread_id!r}")
    elsewhere = log.find(checkpoint_id, limit=MOST)
    raise ThreadNotFoundError(
        f"thread {thread_id!r} has no checkpoint {checkpoint_id!r}{_in_namespace(ns)}"
        + (f"; the log has {_listed(elsewhere)}" if elsewhere else "")
    )


def _exact(id_: str, found: list[CheckpointName]) -> list[CheckpointName]:
    """Those with this id, if there are any; else all."""
    return [each for each in found if each.checkpoint_id == id_] or found


def _in_namespace(ns: str | None) -> str:
    return "" if ns is None else f" in namespace {ns!r}" if ns else " in the root graph's namespace"


def _listed(names: list[CheckpointName]) -> str:
    return ", ".join(
        f"{printable(each.checkpoint_id)} of thread {each.thread_id!r}"
        + (f", namespace {each.checkpoint_ns!r}" if each.checkpoint_ns else "")
        for each in names[: MOST - 1]
    ) + (", …" if len(names) == MOST else "")
