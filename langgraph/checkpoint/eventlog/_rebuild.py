"""Scripts for rebuilding, comparing, and taking over from the log that this one replicates."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog import subscriber
from eventlog.db.query import Script
from eventlog.errors import InvalidInputError
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions
from langgraph.checkpoint.eventlog._arguments import count_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader
from projections.compare import OnDifference
from projections.rebuild import OnProgress, Rebuilt

__all__ = ["WORKERS", "rebuild", "take_over"]

#: The number of parallel readers on a pool.
WORKERS = 4


def rebuild(
    context: Context,
    serde: SerializerProtocol,
    check: bool,
    workers: Any,
    restart: bool,
    accept_loss: bool,
    on_progress: OnProgress | None,
    on_difference: OnDifference | None,
) -> Script[Rebuilt]:
    """Rebuild, or only compare. Validates at once; returns the script to run."""
    most = count_of(workers, "workers")
    if check and (restart or accept_loss):
        raise InvalidInputError("check only compares: leave out restart and accept_loss")
    rebuilder = Reader(context, serde).rebuilder()
    if check:
        return rebuilder.check(most, on_progress, on_difference)
    return rebuilder.rebuild(most, on_progress, on_difference, restart=restart, accept_loss=accept_loss)


def take_over(
    context: Context, serde: SerializerProtocol, workers: Any, on_progress: OnProgress | None
) -> Script[Rebuilt]:
    """Derive everything, then accept appends."""
    statements = context.statements
    rebuilding = rebuild(context, serde, False, workers, False, False, on_progress, None)
    yield lambda: subscriber.check_take_over(statements)
    rebuilt = yield from rebuilding
    yield lambda: subscriber.take_over(statements)
    yield lambda: ensure_partitions(statements)
    logger.info("eventlog.taken_over", schema=statements.schema, events=rebuilt.events)
    return rebuilt
