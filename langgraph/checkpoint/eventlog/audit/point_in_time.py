"""The state of a stream at a time, as far as the log can still determine it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import HistoryErasedError, InvalidInputError, LogCorruptedError, ThreadNotFoundError
from eventlog.events import StoredEvent
from eventlog.records import decode_operation_record
from eventlog.streams import Stream

__all__ = ["latest_at", "writes_at"]

_Range = tuple[int, int]


def latest_at(statements: Statements, stream: Stream, time: datetime) -> Op[tuple[str, int] | None]:
    """The greatest checkpoint id that was saved by a time, and the event that was its current one then.

    None when there was none. Raises as `EventLog.state_at`.
    """
    params: dict[str, Any] = {**stream._asdict(), "time": time}
    ((id_, seq, is_rewritten, next_seq, is_dropped, now),) = yield Query(statements["state_candidate"], params)
    if now is None:
        raise ThreadNotFoundError(f"thread {stream.thread_id!r} does not exist, and the log has no record of it")
    if time > now:
        raise InvalidInputError(
            f"time is in the future: {time.isoformat()}; by the database's clock it is {now.isoformat()}"
        )
    # The numbers that were erased according to the stream's records: by the time, and after it.
    earlier: list[_Range] = []
    later: list[_Range] = []
    gone_through = ""
    for record_seq, last_id, body, is_later in (yield Query(statements["state_records"], params)):
        context = stream.describe_event(record_seq)
        says = decode_operation_record(body, context).says
        try:
            (later if is_later else earlier).extend(_erased(says))
        except (ValueError, TypeError, OverflowError) as exc:
            raise LogCorruptedError(f"{context} does not decode: {type(exc).__name__}: {exc}") from exc
        gone_through = max(gone_through, last_id) if is_later else gone_through
    doubtful = bool(is_rewritten or (is_dropped and id_ is None))
    if not doubtful and later and (id_ is None or id_ <= gone_through):
        there = {number for (number,) in (yield Query(statements["state_seqs"], {**params, "next_seq": next_seq}))}
        # Whether an event that existed at the time was erased later.
        doubtful = any(
            number not in there and not any(first <= number <= last for first, last in earlier)
            for start, end in later
            for number in range(max(start, 1), min(end + 1, next_seq))
        )
    if doubtful:
        raise HistoryErasedError(
            f"the state of thread {stream.thread_id!r} at {time.isoformat()} in namespace {stream.checkpoint_ns!r} was "
            "erased since, or may have been"
        )
    return None if id_ is None else (id_, seq)


def writes_at(statements: Statements, stream: Stream, checkpoint_id: str, time: datetime) -> Op[list[StoredEvent]]:
    """The writes events of a checkpoint that existed at a time, oldest first."""
    params = {**stream._asdict(), "checkpoint_id": checkpoint_id, "time": time}
    return [StoredEvent(*row) for row in (yield Query(statements["state_writes"], params))]


def _erased(says: dict[str, Any]) -> list[_Range]:
    """The erased numbers according to a record. Raises ValueError, TypeError or OverflowError for an invalid record."""
    ranges = [(int(first), int(last)) for first, last in says.get("erased", [])]
    if "records" in says and "anchor" in says:
        # The end of the stream: there are no stubs of events before the last cut.
        ranges.append((1, int(says["anchor"][0])))
    return ranges
