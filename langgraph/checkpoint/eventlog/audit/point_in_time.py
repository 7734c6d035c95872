"""What was there at a time, as far as the log still tells."""

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

    None when there was none.

    Raises:
        InvalidInputError: when the time is in the future, by the database's clock.
        ThreadNotFoundError: when the thread never was.
        HistoryErasedError: when what it was may have been erased since.
    """
    params: dict[str, Any] = {**stream._asdict(), "time": time}
    ((id_, seq, is_rewritten, next_seq, is_dropped, now),) = yield Query(statements["state_candidate"], params)
    if now is None:
        raise ThreadNotFoundError(f"thread {stream.thread_id!r} does not exist, and the log has no record of it")
    if time > now:
        raise InvalidInputError(
            f"time is in the future: {time.isoformat()}; by the database's clock it is {now.isoformat()}"
        )
    erased = _Erased()
    for record_seq, through, body, is_later in (yield Query(statements["state_records"], params)):
        context = stream.describe_event(record_seq)
        says = decode_operation_record(body, context).says
        try:
            erased.add(says, through, is_later=is_later)
        except (ValueError, TypeError, OverflowError) as exc:
            raise LogCorruptedError(f"{context} does not decode: {type(exc).__name__}: {exc}") from exc
    doubtful = bool(is_rewritten or (is_dropped and id_ is None))
    if not doubtful and erased.later and (id_ is None or id_ <= erased.through):
        seqs = yield Query(statements["state_seqs"], {**params, "next_seq": next_seq})
        doubtful = erased.before(next_seq, {number for (number,) in seqs})
    if doubtful:
        raise HistoryErasedError(
            f"the state of thread {stream.thread_id!r} at {time.isoformat()} in namespace {stream.checkpoint_ns!r} was "
            "erased since, or may have been"
        )
    return None if id_ is None else (id_, seq)


def writes_at(statements: Statements, stream: Stream, checkpoint_id: str, time: datetime) -> Op[list[StoredEvent]]:
    """The writes events of a checkpoint that were there at a time, oldest first."""
    params = {**stream._asdict(), "checkpoint_id": checkpoint_id, "time": time}
    return [StoredEvent(*row) for row in (yield Query(statements["state_writes"], params))]


class _Erased:
    """What a stream's records say is gone."""

    def __init__(self) -> None:
        self.later: list[_Range] = []
        """Numbers that went after the time."""
        self.through = ""
        """No checkpoint with a greater id went."""
        self._earlier: list[_Range] = []

    def add(self, says: dict[str, Any], through: str, *, is_later: bool) -> None:
        """Take in the next record, in the order of their numbers.

        Raises ValueError, TypeError, OverflowError when it does not say what a record says.
        """
        ranges = [(int(first), int(last)) for first, last in says.get("erased", [])]
        if "records" in says and "anchor" in says:
            # The end of the stream: no stub says what went before the last cut.
            ranges.append((1, int(says["anchor"][0])))
        if is_later:
            self.later += ranges
            self.through = max(self.through, through)
        else:
            self._earlier += ranges

    def before(self, next_seq: int, there: set[int]) -> bool:
        """Whether something went after the time that had been there by then.

        Args:
            next_seq: the first number after the time.
            there: the numbers before that which are there.
        """
        return any(
            number not in there and not any(first <= number <= last for first, last in self._earlier)
            for start, end in self.later
            for number in range(max(start, 1), min(end + 1, next_seq))
        )
