"""Operations under observation: measures their queries and the answers, on any driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import trace
from opentelemetry.trace import Span

from eventlog.append import CHECKPOINT_PARAMETERS, WRITES_PARAMETERS
from eventlog.db.query import BatchableQuery, MakeOp, Op, Query, Rows
from eventlog.read import EVENT, SNAPSHOT
from eventlog.telemetry import names

if TYPE_CHECKING:
    from eventlog.telemetry.recorder import Recorder

__all__ = ["JointQuery", "ObservedQuery", "observed"]

T = TypeVar("T")

#: The column of a read's answer with the kind of row.
_READS: Final = {"read_checkpoint": 0, "read_checkpoints": 0, "read_ancestry": 0, "read_listed": 1}

#: The places of the operation's name and the number of events among the parameters of `cut_stream`.
_CUT_OPERATION, _CUT_EVENTS = 6, 9


@dataclass(frozen=True, slots=True)
class ObservedQuery(BatchableQuery):
    """A query that knows its call's span."""

    span: Span = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class JointQuery(Query):
    """The joint query of several calls, with their spans."""

    members: Sequence[Span] = field(kw_only=True)


def _joined(
    join: Callable[[Sequence[BatchableQuery], str | None], Query], queries: Sequence[BatchableQuery], group: str | None
) -> Query:
    joint = join(queries, group)
    members = [each.span for each in queries if isinstance(each, ObservedQuery)]
    return JointQuery(joint.statement, joint.params, joint.returns, joint.is_frequent, joint.weight, members=members)


def observed(make_op: MakeOp[T], recorder: Recorder) -> MakeOp[T]:
    """Starts the same operation, under observation."""
    return lambda: _observe(make_op(), recorder)


def _observe(op: Op[T], recorder: Recorder) -> Op[T]:
    step: Callable[[], Query] = partial(next, op)
    # An erasure counts when the operation's transaction is over.
    erasures: list[tuple[str, int]] = []
    while True:
        try:
            query = step()
        except StopIteration as stop:
            for operation, events in erasures:
                _note_erasure(recorder, operation, events)
            return stop.value  # type: ignore[no-any-return]
        try:
            rows = yield _with_span(query)
        except GeneratorExit:
            op.close()
            raise
        except BaseException as exc:  # The operation decides.
            step = partial(op.throw, exc)
        else:
            _note(recorder, query, rows, erasures)
            step = partial(op.send, rows)


def _with_span(query: Query) -> Query:
    if not isinstance(query, BatchableQuery):
        return query
    return ObservedQuery(
        query.statement,
        query.params,
        query.returns,
        query.is_frequent,
        query.weight,
        join=partial(_joined, query.join),
        group=query.group,
        span=trace.get_current_span(),
    )


def _note(recorder: Recorder, query: Query, rows: Rows, erasures: list[tuple[str, int]]) -> None:
    name = recorder.statements[query.statement].query if query.statement else None
    if name is None:
        return
    if name in _READS:
        _note_read(recorder, [row[_READS[name]] for row in rows])
    elif name.startswith("append_checkpoint"):
        _note_checkpoint(recorder, dict(zip(CHECKPOINT_PARAMETERS, query.params or (), strict=False)), rows[0][0])
    elif name.startswith("append_writes"):
        _note_writes(recorder, dict(zip(WRITES_PARAMETERS, query.params or (), strict=True)), rows[0][0])
    elif name == "delete_thread" and isinstance(query.params, tuple):
        is_idle, events = rows[0][:2]
        if is_idle and events:
            erasures.append((query.params[1], events))
    elif name == "cut_stream" and isinstance(query.params, tuple) and query.params[_CUT_EVENTS]:
        erasures.append((query.params[_CUT_OPERATION], query.params[_CUT_EVENTS]))


def _note_read(recorder: Recorder, parts: list[int]) -> None:
    instruments = recorder.instruments
    instruments.replayed.record(parts.count(EVENT), recorder.log_attributes)
    if snapshots := parts.count(SNAPSHOT):
        instruments.snapshots.add(snapshots, {**recorder.log_attributes, names.ACTION: "read"})


def _note_checkpoint(recorder: Recorder, params: dict[str, Any], status: str) -> None:
    if status != "ok":
        _note_conflict(recorder, status)
        return
    instruments = recorder.instruments
    _note_append(recorder, "checkpoint", len(params["body"]))
    instruments.state_size.add(int(params["state_bytes"]), recorder.log_attributes)
    if snapshot := params["snapshot"]:
        instruments.appended_size.add(len(snapshot), {**recorder.log_attributes, names.KIND: "snapshot"})
        instruments.snapshots.add(1, {**recorder.log_attributes, names.ACTION: "written"})


def _note_writes(recorder: Recorder, params: dict[str, Any], status: str) -> None:
    if status != "ok":
        _note_conflict(recorder, status)
        return
    _note_append(recorder, "writes", len(params["body"]))


def _note_append(recorder: Recorder, kind: str, size: int) -> None:
    attributes = {**recorder.log_attributes, names.KIND: kind}
    recorder.instruments.appended_events.add(1, attributes)
    recorder.instruments.appended_size.add(size, attributes)


def _note_conflict(recorder: Recorder, status: str) -> None:
    recorder.instruments.conflicts.add(1, {**recorder.log_attributes, names.REASON: status})


def _note_erasure(recorder: Recorder, operation: str, events: int) -> None:
    attributes = {**recorder.log_attributes, names.OPERATION: operation}
    recorder.instruments.erasures.add(1, attributes)
    recorder.instruments.erased_events.add(events, attributes)
