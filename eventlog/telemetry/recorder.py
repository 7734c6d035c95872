"""The recorder of a saver and its log: spans of calls and statements, and measurements.

A call's span is current while the call runs, in each of its threads and tasks; a statement's span never is, as nothing
runs inside it. An endless call (`tail(follow=True)`) has no span: each of its operations has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime, timezone
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import psycopg
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from eventlog.logger import CALL_FIELDS
from eventlog.settings import Settings, Telemetry
from eventlog.telemetry import names
from eventlog.telemetry.instruments import VERSION, Cache, Instruments
from eventlog.telemetry.statements import StatementNames

if TYPE_CHECKING:
    from eventlog.feed import Lag
    from eventlog.partitions import Partitions

__all__ = ["Call", "Recorder"]

#: The endless call of this thread or task: each of its operations has a span.
_ENDLESS: Final[ContextVar[Call | None]] = ContextVar("ENDLESS", default=None)


class Recorder:
    """Reports for one saver or log, and all that shares its context."""

    def __init__(self, settings: Settings) -> None:
        given = settings.telemetry if isinstance(settings.telemetry, Telemetry) else Telemetry()
        self.schema = settings.schema_name
        self.instruments = Instruments.of(given.meter_provider)
        self.tracer = trace.get_tracer(names.SCOPE, VERSION, given.tracer_provider, names.SCHEMA_URL)
        self.statements = StatementNames(settings.schema_name)
        self.log_attributes = {names.SCHEMA: settings.schema_name}
        self._servers: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()

    def watch_cache(self, cache: Cache) -> None:
        """Observe a cache of states."""
        self.instruments.watch_cache(cache, self.schema)

    # --- calls

    def operation(self) -> AbstractContextManager[Any]:
        """For an endless call, the span of one operation; else nothing."""
        call = _ENDLESS.get()
        return nullcontext() if call is None else call.once()

    def note_retry(self, exc: BaseException, attempt: int, wait: float) -> None:
        """An operation is retried after so many seconds."""
        reason = {names.ERROR_TYPE: type(exc).__name__}
        self.instruments.retries.add(1, {**self.log_attributes, **reason})
        trace.get_current_span().add_event(
            names.RETRY_EVENT, {**reason, names.RETRY_ATTEMPT: attempt, names.RETRY_WAIT: wait}
        )

    # --- statements

    def statement(
        self, conn: Any, statement: bytes, members: Sequence[Span], *, has_span: bool
    ) -> AbstractContextManager[None]:
        """Around the execution of a statement.

        Args:
            members: the spans of the calls that a joint statement is for.
            has_span: whether it gets a span.
        """
        return _Statement(self, conn, statement, members, has_span)

    def note_group(self, size: int) -> None:
        """One statement makes so many appends."""
        self.instruments.group_size.record(size, self.log_attributes)

    def server_of(self, conn: Any) -> dict[str, Any]:
        """The attributes of a connection, read once: a closed connection has none."""
        found = self._servers.get(conn)
        if found is None:
            found = {names.DB_SYSTEM: names.POSTGRESQL}
            try:
                info = conn.info
                found[names.DB_NAMESPACE] = f"{info.dbname}|{self.schema}"
                # With several hosts, the connected one.
                found[names.SERVER_ADDRESS] = info.host or info.hostaddr
                found[names.SERVER_PORT] = info.port
            except psycopg.Error:
                return found
            self._servers[conn] = found
        return found

    # --- readings of the log

    def note_partitions(self, found: Partitions) -> None:
        """Gauge how long the partitions last."""
        now = datetime.now(timezone.utc)
        # Partitions behind a gap are no reserve.
        ahead = sum(1 for each in found.partitions if now < each.starts_at < now + found.runway)
        self.instruments.look(names.PARTITIONS_AHEAD, ahead, self.log_attributes)
        self.instruments.look(names.RUNWAY, found.runway.total_seconds(), self.log_attributes)

    def note_lags(self, lags: Mapping[str, Lag]) -> None:
        """Gauge how far all existing projections are behind, by name."""
        for name in (names.LAG, names.LAG_TIME):
            self.instruments.forget_projections(name, self.schema)
        for projection, lag in lags.items():
            self._look_at_lag(lag, {**self.log_attributes, names.PROJECTION: projection})

    def note_lag(self, lag: Lag) -> None:
        """Gauge how far behind the reader of a given cursor is."""
        self._look_at_lag(lag, self.log_attributes)

    def _look_at_lag(self, lag: Lag, attributes: Mapping[str, str]) -> None:
        self.instruments.look(names.LAG, lag.waiting, attributes)
        self.instruments.look(names.LAG_TIME, lag.oldest_seconds or 0.0, attributes)


class Call:
    """A call of a saver or a log, and its span.

    Args:
        name: the method's.
        attributes: of the span.
        is_endless: whether each of its operations has a span instead.
    """

    def __init__(self, recorder: Recorder, name: str, attributes: Mapping[str, Any], *, is_endless: bool) -> None:
        self._recorder, self._name, self._attributes = recorder, names.SPAN_PREFIX + name, attributes
        self._is_endless = is_endless
        self._span: Span = trace.INVALID_SPAN

    def __enter__(self) -> Call:
        self.start()
        self._step = self.step()
        self._step.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._step.__exit__(kind, exc, tb)
        self.end(exc)

    def start(self) -> None:
        """Begin the span, as a child of the current one. It is current only inside `step`."""
        if not self._is_endless:
            self._span = self._recorder.tracer.start_span(
                self._name, kind=SpanKind.INTERNAL, attributes=self._attributes
            )

    def end(self, exc: BaseException | None = None) -> None:
        """End the span, with an error if there was one."""
        if exc is not None and not isinstance(exc, GeneratorExit):
            _set_error(self._span, {names.ERROR_TYPE: type(exc).__qualname__})
        self._span.end()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Work on the call: its span is current, and log lines name its thread."""
        # A call in a callback of an endless call has its own span, and none for its operations.
        endless = _ENDLESS.set(self if self._is_endless else None)
        token = None if self._is_endless else contexts.attach(trace.set_span_in_context(self._span))
        fields = CALL_FIELDS.set(self._fields)
        try:
            yield
        finally:
            CALL_FIELDS.reset(fields)
            if token is not None:
                contexts.detach(token)
            _ENDLESS.reset(endless)

    @contextmanager
    def once(self) -> Iterator[None]:
        """One operation of an endless call."""
        with Call(self._recorder, self._name.removeprefix(names.SPAN_PREFIX), self._attributes, is_endless=False):
            yield  # Calls that the operation makes are part of it.

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes of the result."""
        self._span.set_attributes(attributes)

    def _fields(self) -> dict[str, Any]:
        """Fields for lines that are logged during the call."""
        fields = {
            field: self._attributes[name]
            for field, name in (("thread_id", names.THREAD_ID), ("checkpoint_ns", names.CHECKPOINT_NS))
            if name in self._attributes
        }
        here = trace.get_current_span().get_span_context()
        if here.is_valid:
            fields["trace_id"] = trace.format_trace_id(here.trace_id)
            fields["span_id"] = trace.format_span_id(here.span_id)
        return fields


class _Statement:
    """The execution of a statement: its span and its duration.

    A joint statement's span is in the trace of the call that waited longest, and has links to the spans of all its
    calls.
    """

    __slots__ = (
        "_attributes",
        "_began",
        "_conn",
        "_has_span",
        "_members",
        "_recorder",
        "_span",
        "_statement",
        "_token",
    )

    def __init__(
        self, recorder: Recorder, conn: Any, statement: bytes, members: Sequence[Span], has_span: bool
    ) -> None:
        self._recorder, self._conn, self._statement = recorder, conn, statement
        self._members, self._has_span = members, has_span
        self._span: Span = trace.INVALID_SPAN
        self._token: Any = None

    def __enter__(self) -> None:
        recorder, members = self._recorder, self._members
        name = recorder.statements[self._statement]
        self._attributes = attributes = {**recorder.server_of(self._conn), **name.attributes}
        links: list[Link] = []
        if members:
            # It runs in a thread or task of its own.
            self._token = contexts.attach(trace.set_span_in_context(members[0]))
            links = [Link(each.get_span_context()) for each in members]
            attributes = {**attributes, names.DB_BATCH_SIZE: len(members)}
        if self._has_span:
            self._span = recorder.tracer.start_span(
                name.summary, kind=SpanKind.CLIENT, attributes=attributes, links=links
            )
            _tell(members, self._span)
        self._began = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        took = perf_counter() - self._began
        attributes = self._attributes
        if exc is not None:
            failed = _database_error(exc)
            attributes = {**attributes, **failed}
            _set_error(self._span, failed)
        self._span.end()
        if self._token is not None:
            contexts.detach(self._token)
        self._recorder.instruments.duration.record(took, attributes)


def _tell(members: Sequence[Span], span: Span) -> None:
    """Note on the spans of a batch's calls which statement does their work."""
    for each in members:
        # A call that was cancelled has ended.
        if each.is_recording():
            each.add_event(names.BATCH_EVENT, {names.DB_BATCH_SIZE: len(members)})
            each.add_link(span.get_span_context())


def _database_error(exc: BaseException) -> dict[str, str]:
    """The kind of error: the server's SQLSTATE, or else the class."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, psycopg.Error) and cause.sqlstate is not None:
            return {names.ERROR_TYPE: cause.sqlstate, names.DB_STATUS: cause.sqlstate}
        cause = cause.__cause__
    return {names.ERROR_TYPE: type(exc).__qualname__}


def _set_error(span: Span, attributes: Mapping[str, str]) -> None:
    """Mark a span as failed. The error's message is left out: it may quote keys and values."""
    span.set_attributes(attributes)
    span.set_status(Status(StatusCode.ERROR))
