"""Running custom projections, as scripts: batch after batch, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Pause, Script
from eventlog.errors import InvalidInputError, LogBusyError
from eventlog.events import StoredEvent
from eventlog.streams import storable
from langgraph.checkpoint.eventlog._arguments import count_of, one_of, seconds_of
from langgraph.checkpoint.eventlog._context import Context
from projections.custom import Applied, Projection, Projector, check_projection
from projections.event import Event

__all__ = ["BATCH_EVENTS", "OnBatch", "checked_projections", "decode", "forget", "project", "rebuild"]

#: Events that a batch has at most.
BATCH_EVENTS = 500

#: Told of each batch: the projection's name and what was done.
OnBatch = Callable[[str, Applied], None]

#: Batches that give way to somebody else, one after the other, before that is an error.
MOST_FAILURES = 10

#: How long to wait for another worker that has a batch under way.
STANDBY_SECONDS = 0.2


def _projector(context: Context, serde: SerializerProtocol) -> Projector:
    reader = context.reader(serde)
    return Projector(context.statements, reader.codec, reader.plain, reader.restated_writes)


def checked_projections(context: Context, projections: Any, *, is_async: bool) -> list[Projection]:
    """One projection, or several of different names. Raises InvalidInputError."""
    several = projections if isinstance(projections, Iterable) else [projections]
    checked: dict[str, Projection] = {}
    for projection in several:
        check_projection(projection, context.settings.schema_name, is_async=is_async)
        if projection.name in checked:
            raise InvalidInputError(f"two projections have the name {projection.name!r}: give one of them another")
        checked[projection.name] = projection
    if not checked:
        raise InvalidInputError("no projection given: give at least one")
    return list(checked.values())


def project(
    context: Context,
    serde: SerializerProtocol,
    is_async: bool,
    projections: Any,
    follow: bool,
    batch_events: Any,
    poll_interval: Any,
    on_batch: OnBatch | None,
    on_undecodable: Any,
) -> Script[dict[str, int]]:
    """Bring projections up to date; returns how many events were applied to each, by name."""
    behind = checked_projections(context, projections, is_async=is_async)
    rows, poll_seconds = count_of(batch_events, "batch_events"), seconds_of(poll_interval, "poll_interval")
    skips = one_of(on_undecodable, "on_undecodable", "stop", "skip") == "skip"
    projector = _projector(context, serde)
    counts = {projection.name: 0 for projection in behind}
    failures = 0
    while behind:
        waiting = poll_seconds
        is_idle = True
        for projection in list(behind):
            try:
                applied: Applied = yield partial(projector.step, projection, rows, skips=skips)
            except LogBusyError:
                # Something was erased under the batch, or two transactions were in each other's way: once more.
                failures += 1
                if failures == MOST_FAILURES:
                    raise
                is_idle, waiting = True, STANDBY_SECONDS
                continue
            failures = 0
            counts[projection.name] += applied.events
            if on_batch is not None:
                on_batch(projection.name, applied)
            if applied.is_standby:
                waiting = min(waiting, STANDBY_SECONDS)
            elif not applied.is_end:
                is_idle = False
            elif not follow:
                behind.remove(projection)
        if is_idle and behind:
            yield Pause(waiting)
    return counts


def rebuild(context: Context, serde: SerializerProtocol, is_async: bool, projections: Any) -> Script[None]:
    """Empty projections and begin again."""
    projector = _projector(context, serde)
    for projection in checked_projections(context, projections, is_async=is_async):
        while not (yield partial(projector.restart, projection)):
            yield Pause(STANDBY_SECONDS)


def decode(context: Context, serde: SerializerProtocol, event: Any) -> Op[Event]:
    """An event of the feed, to be decoded. Raises InvalidInputError."""
    if not isinstance(event, StoredEvent):
        raise InvalidInputError(f"event must be a StoredEvent, as tail() yields them, not {type(event).__name__}")
    (opened,) = yield from _projector(context, serde).events([event])
    return opened


def forget(context: Context, serde: SerializerProtocol, name: Any) -> Script[None]:
    """Forget a projection's cursor. Raises InvalidInputError."""
    name, projector = storable(name, "name"), _projector(context, serde)
    while (was_there := (yield partial(projector.forget, name))) is None:
        yield Pause(STANDBY_SECONDS)
    if not was_there:
        raise InvalidInputError(f"the log has no projection {name!r}")
