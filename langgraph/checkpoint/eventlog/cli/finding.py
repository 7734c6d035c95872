"""Which checkpoint somebody means: by a thread, by an id, by how it begins."""

from __future__ import annotations

from eventlog.errors import InvalidInputError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import CheckpointName, EventLog
from langgraph.checkpoint.eventlog.cli.render.output import printable

__all__ = ["checkpoint_of_thread", "checkpoint_or_thread", "namespaced"]

#: Candidates that a message names.
SOME = 6


def checkpoint_or_thread(log: EventLog, name: str, ns: str | None) -> CheckpointName:
    """A thread's latest checkpoint, or the one checkpoint in all threads that has this id.

    Raises:
        ThreadNotFoundError: when it is neither, or has no checkpoint.
        InvalidInputError: when several threads have a checkpoint of this id.
    """
    there = log.namespaces(name)
    if there:
        return _latest(name, there, ns)
    found = [each for each in log.find(name, limit=SOME) if ns is None or each.checkpoint_ns == ns]
    exact = [each for each in found if each.checkpoint_id == name] or found
    if not exact:
        raise ThreadNotFoundError(f"no thread has the id {name!r}, and no checkpoint id begins with it")
    if len(exact) > 1:
        raise InvalidInputError(
            f"several checkpoints have an id that begins with {name!r}: give the thread as well. They are: "
            f"{_listed(exact)}"
        )
    return exact[0]


def checkpoint_of_thread(log: EventLog, thread_id: str, checkpoint_id: str, ns: str | None) -> CheckpointName:
    """The checkpoint of a thread whose id this is, or whose id alone begins so.

    Raises:
        ThreadNotFoundError: when there is no such thread, or it has no such checkpoint; says who else has it.
        InvalidInputError: when several begin so.
    """
    found = log.find(checkpoint_id, thread_id=thread_id, checkpoint_ns=ns, limit=SOME)
    exact = [each for each in found if each.checkpoint_id == checkpoint_id] or found
    if len(exact) == 1:
        return exact[0]
    if exact:
        raise InvalidInputError(
            f"several checkpoints of thread {thread_id!r} have an id that begins with {checkpoint_id!r}: give more of "
            f"it, or the namespace with --ns. They are: {_listed(exact)}"
        )
    if not log.namespaces(thread_id):
        raise ThreadNotFoundError(f"no thread has the id {thread_id!r}")
    elsewhere = log.find(checkpoint_id, limit=SOME)
    raise ThreadNotFoundError(
        f"thread {thread_id!r} has no checkpoint {checkpoint_id!r}{namespaced(ns)}"
        + (f"; the log has {_listed(elsewhere)}" if elsewhere else "")
    )


def _latest(thread_id: str, there: dict[str, str | None], ns: str | None) -> CheckpointName:
    latest = there.get(ns or "")
    if latest is not None:
        return CheckpointName(thread_id, ns or "", latest)
    others = [repr(each) for each, id_ in there.items() if id_ is not None]
    raise ThreadNotFoundError(
        f"thread {thread_id!r} has no checkpoint{namespaced(ns or '')}"
        + (f"; it has checkpoints in {', '.join(others[:SOME])}: give one of them with --ns" if others else "")
    )


def namespaced(ns: str | None) -> str:
    """How a message names a namespace."""
    return "" if ns is None else f" in namespace {ns!r}" if ns else " in the root graph's namespace"


def _listed(names: list[CheckpointName]) -> str:
    return ", ".join(
        f"{printable(each.checkpoint_id)} of thread {each.thread_id!r}"
        + (f", namespace {each.checkpoint_ns!r}" if each.checkpoint_ns else "")
        for each in names[: SOME - 1]
    ) + (", …" if len(names) == SOME else "")
