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
from langgraph.checkpoint.eventlog._arguments import count_of, one_of, seconds_of, stop_of
from langgraph.checkpoint.eventlog._context import Context
from projections.custom import Applied, Projection, check_projection
from projections.event import Event
from projections.projector import Projector
from projections.set_aside import Retried, SetAside, read_set_aside

__all__ = [
    "BATCH_EVENTS",
    "OnBatch",
    "checked_projections",
    "decode",
    "forget",
    "project",
    "rebuild",
    "retry",
    "set_aside",
]

#: The largest number of events in a batch.
BATCH_EVENTS = 500

#: Is called after each batch with the projection's name and the result.
OnBatch = Callable[[str, Applied], None]

#: The number of set-aside events that are retried in one transaction.
RETRIED = 100

#: The number of successive batches that fail because of other transactions, before that is an error.
MOST_FAILURES = 10

#: How long to wait for another worker that has a batch under way.
STANDBY_SECONDS = 0.2


def _projector(context: Context, serde: SerializerProtocol) -> Projector:
    reader = context.reader(serde)
    decoder_of = None if reader.upcasting is None else reader.upcasting_decoder
    return Projector(context.statements, reader.codec, reader.plain, reader.restated_writes, decoder_of)


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
    on_error: Any,
    stop: Any,
) -> Script[dict[str, int]]:
    """Bring projections up to date; returns how many events were applied to each, by name."""
    behind = checked_projections(context, projections, is_async=is_async)
    rows, poll_seconds = count_of(batch_events, "batch_events"), seconds_of(poll_interval, "poll_interval")
    skips = one_of(on_undecodable, "on_undecodable", "stop", "skip") == "skip"
    sets_aside = one_of(on_error, "on_error", "stop", "set_aside") == "set_aside"
    if skips and sets_aside:
        raise InvalidInputError(
            'on_error="set_aside" also sets aside events that do not decode: leave out on_undecodable="skip"'
        )
    is_over = stop_of(stop)
    projector = _projector(context, serde)
    counts = {projection.name: 0 for projection in behind}
    failures = 0
    looked_at: set[str] = set()
    while behind and not is_over():
        waiting = poll_seconds
        is_idle = True
        for projection in list(behind):
            if is_over():
                return counts
            try:
                is_first = projection.name not in looked_at
                applied: Applied = yield partial(
                    projector.step, projection, rows, skips=skips, sets_aside=sets_aside, is_first=is_first
                )
            except LogBusyError:
                # An event of the batch was erased, or the transaction conflicted with another one: try again.
                failures += 1
                if failures == MOST_FAILURES:
                    raise
                is_idle, waiting = True, STANDBY_SECONDS
                continue
            failures = 0
            counts[projection.name] += applied.events
            if on_batch is not None:
                on_batch(projection.name, applied)
            if not applied.is_standby:
                looked_at.add(projection.name)
            if applied.is_standby:
                waiting = min(waiting, STANDBY_SECONDS)
            elif not applied.is_end:
                is_idle = False
            elif not follow:
                behind.remove(projection)
        if is_idle and behind:
            yield Pause(waiting, stop)
    return counts


def rebuild(context: Context, serde: SerializerProtocol, is_async: bool, projections: Any) -> Script[None]:
    """Empty projections and begin again."""
    projector = _projector(context, serde)
    for projection in checked_projections(context, projections, is_async=is_async):
        while not (yield partial(projector.restart, projection)):
            yield Pause(STANDBY_SECONDS)


def retry(context: Context, serde: SerializerProtocol, is_async: bool, projections: Any) -> Script[dict[str, Retried]]:
    """Retry the events that projections have set aside; returns the results by name."""
    projector = _projector(context, serde)
    found: dict[str, Retried] = {}
    for projection in checked_projections(context, projections, is_async=is_async):
        done, after, failures = Retried(), None, 0
        while True:
            try:
                page = yield partial(projector.retry, projection, after, RETRIED)
            except LogBusyError:
                failures += 1
                if failures == MOST_FAILURES:
                    raise
                yield Pause(STANDBY_SECONDS)
                continue
            failures = 0
            if page is None:
                yield Pause(STANDBY_SECONDS)
                continue
            did, after = page
            done = Retried(*(one + other for one, other in zip(done, did, strict=True)))
            if after is None:
                break
        found[projection.name] = done
    return found


def set_aside(context: Context, name: Any, limit: Any) -> Op[list[SetAside]]:
    """The events that a projection (or all projections) has set aside. Raises InvalidInputError."""
    of = None if name is None else storable(name, "name")
    return (yield from read_set_aside(context.statements, of, count_of(limit, "limit")))


def decode(context: Context, serde: SerializerProtocol, event: Any, on_undecodable: Any) -> Op[Event]:
    """An event of the feed, to be decoded. Raises InvalidInputError, LogCorruptedError."""
    stops = one_of(on_undecodable, "on_undecodable", "show", "stop") == "stop"
    if not isinstance(event, StoredEvent):
        raise InvalidInputError(f"event must be a StoredEvent, as tail() yields them, not {type(event).__name__}")
    (opened,) = yield from _projector(context, serde).events([event])
    if stops and (error := opened.error) is not None:
        raise error
    return opened


def forget(context: Context, serde: SerializerProtocol, name: Any) -> Script[None]:
    """Forget a projection's cursor. Raises InvalidInputError."""
    name, projector = storable(name, "name"), _projector(context, serde)
    while (was_there := (yield partial(projector.forget, name))) is None:
        yield Pause(STANDBY_SECONDS)
    if not was_there:
        raise InvalidInputError(f"the log has no projection {name!r}")
