"""Reading a checkpoint's ancestry: its ancestors along the parents, with their events and writes, still encoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.events import StoredEvent
from eventlog.streams import Stream, StreamHead

__all__ = ["Ancestry", "KnownHead", "NamedEvent", "read_ancestry"]

# The kinds of rows. `sql/functions/read_ancestry_v1.sql` uses the same numbers.
_STREAM, _CHECKPOINT, _EVENT, _KNOWN, _WRITES = range(5)

#: A caller who knows the stream up to an event gets the later events, unless there are more than this.
MOST_SINCE_KNOWN = 512


class KnownHead(NamedTuple):
    """The last event of a stream that the caller knows."""

    head: StreamHead
    recorded_at: datetime


class NamedEvent(NamedTuple):
    """An event of a checkpoint."""

    checkpoint_id: str
    stored: StoredEvent


@dataclass(slots=True)
class Ancestry:
    """A checkpoint and its ancestors; or, if the caller's `known` event is still valid, all events since."""

    known: KnownHead
    """The stream when this was read."""
    latest_id: str | None
    written_through: str | None
    """The greatest checkpoint id with writes at that time, even if the checkpoint was not saved yet."""
    is_since_known: bool = False
    is_changed: bool = False
    """Whether one of the events since is a record: known events may be erased."""
    checkpoints: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    """By id, nearest first: the event's number and the parent. Empty with `is_since_known`."""
    events: list[NamedEvent] = field(default_factory=list)
    """The events that saved these checkpoints."""
    writes: list[NamedEvent] = field(default_factory=list)


def read_ancestry(
    statements: Statements,
    stream: Stream,
    checkpoint_id: str | None,
    rows: int,
    most_bytes: int,
    known: KnownHead | None,
    weight: int = 0,
) -> Op[Ancestry | None]:
    """Read a checkpoint (None: the latest) and its ancestors, in one round trip; None if the stream does not exist.

    Args:
        rows: the most checkpoints to read.
        most_bytes: stop once their states together have so many bytes.
        known: the last event that the caller knows. If it is still valid, only later events are sent.
        weight: the bytes that the caller already holds.
    """
    params = (
        *(*stream, checkpoint_id, str(rows), str(most_bytes)),
        *(
            (None, None, None, None)
            if known is None
            else (str(known.head.seq), str(known.head.epoch), known.head.digest, str(known.recorded_at))
        ),
        str(MOST_SINCE_KNOWN),
    )
    found = yield Query(statements["read_ancestry"], params, is_frequent=True, weight=weight)
    if not found:
        return None
    _, seq, epoch, at, latest_id, written_through, digest = found[0]
    answer = Ancestry(KnownHead(StreamHead(seq, epoch, digest), at), latest_id, written_through)
    for part, seq, base_seq, at, id_, parent_id, body in found[1:]:
        if part == _CHECKPOINT:
            answer.checkpoints[id_] = seq, parent_id
        elif part == _EVENT:
            answer.events.append(NamedEvent(id_, StoredEvent(seq, base_seq, at, body)))
        elif part == _WRITES:
            answer.writes.append(NamedEvent(id_, StoredEvent(seq, base_seq, at, body)))
        elif part == _KNOWN:
            answer.is_since_known = True
        else:
            answer.is_changed = True
    return answer
