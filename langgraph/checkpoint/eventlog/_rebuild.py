"""Rebuilding and comparing, as scripts: validated first."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Script
from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog._arguments import count_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader
from projections.compare import OnDifference
from projections.rebuild import OnProgress, Rebuilt

__all__ = ["WORKERS", "rebuild"]

#: Reader side by side, where the connection is a pool.
WORKERS = 4


def rebuild(
    context: Context,
    serde: SerializerProtocol,
    *,
    check: bool,
    workers: Any,
    restart: bool,
    on_progress: OnProgress | None,
    on_difference: OnDifference | None,
) -> Script[Rebuilt]:
    """Rebuild, or only compare. Validates at once; returns the script to run."""
    most = count_of(workers, "workers")
    if check and restart:
        raise InvalidInputError("check changes nothing, so there is nothing to restart: give one of them")
    rebuilder = Reader(context, serde).rebuilder()
    if check:
        return rebuilder.check(most, on_progress, on_difference)
    return rebuilder.rebuild(most, on_progress, on_difference, restart=restart)
