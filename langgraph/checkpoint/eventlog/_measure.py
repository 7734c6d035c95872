"""Measures the log for gauges: how long its partitions last, and how far projections are behind."""

from __future__ import annotations

from functools import partial

from eventlog.db.query import Script
from eventlog.errors import EventLogError
from eventlog.feed import Lag, read_lag
from eventlog.logger import logger
from eventlog.partitions import Partitions, read_partitions
from langgraph.checkpoint.eventlog._context import Context
from projections.custom import ProjectionState, read_states

__all__ = ["measure"]


def measure(context: Context) -> Script[None]:
    """Measure, if metrics are on. A measurement that fails is logged and ends nothing."""
    recorder, statements = context.recorder, context.statements
    if recorder is None:
        return
    try:
        partitions: Partitions = yield partial(read_partitions, statements, exact=False)
        recorder.note_partitions(partitions)
        states: list[ProjectionState] = yield partial(read_states, statements)
        lags: dict[str, Lag] = {}
        for each in states:
            lags[each.name] = yield partial(read_lag, statements, each.cursor)
        recorder.note_lags(lags)
    except EventLogError as exc:
        logger.warning("eventlog.not_measured", reason=str(exc), advice="gauges keep their last values")
