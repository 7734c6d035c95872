"""Taking over from the log that this one is a replica of, as a script."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog import subscriber
from eventlog.db.query import Script
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._rebuild import rebuild
from projections.rebuild import OnProgress, Rebuilt

__all__ = ["take_over"]


def take_over(
    context: Context, serde: SerializerProtocol, *, workers: Any, on_progress: OnProgress | None
) -> Script[Rebuilt]:
    """Derive everything, then append here. Validates at once; returns the script to run."""
    rebuilding = rebuild(
        context, serde, check=False, workers=workers, restart=False, on_progress=on_progress, on_difference=None
    )
    return _take_over(context, rebuilding)


def _take_over(context: Context, rebuilding: Script[Rebuilt]) -> Script[Rebuilt]:
    statements = context.statements
    yield lambda: subscriber.check_take_over(statements)
    rebuilt = yield from rebuilding
    yield lambda: subscriber.take_over(statements)
    yield lambda: ensure_partitions(statements, context.settings)
    logger.info("eventlog.taken_over", schema=statements.schema, events=rebuilt.events)
    return rebuilt
