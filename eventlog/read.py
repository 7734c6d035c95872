"""Reading the log: the events and snapshots of a checkpoint, still encoded.

These operations return events and snapshots as stored; folding them is the projections' work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql
from typing_extensions import LiteralString

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.events import BaseRef, StoredEvent
from eventlog.streams import Stream, StreamHead

__all__ = [
    "CHECKPOINT",
    "EVENT",
    "SNAPSHOT",
    "CheckpointName",
    "CheckpointRow",
    "ObservedHead",
    "Page",
    "Path",
    "Selection",
    "find_checkpoints",
    "latest_of_thread",
    "read_ancestors",
    "read_event_path",
    "read_events",
    "read_pages",
    "read_path",
    "read_writes",
    "select_checkpoints",
]


# The kinds of rows that a read returns, as numbered in `sql/functions`. KNOWN: the caller knows the state from which
# the path starts.
CHECKPOINT, SNAPSHOT, EVENT, KNOWN, WRITES, HEAD = range(6)


class ObservedHead(NamedTuple):
    """The head of a stream when a checkpoint of it was read."""

    seq: int
    """Its last event."""
    latest_id: str
    """Its latest checkpoint."""


@dataclass(slots=True)
class Path:
    """One checkpoint, and the events and snapshot to replay it from."""

    checkpoint_id: str
    parent_id: str | None
    seq: int
    recorded_at: datetime
    epoch: int
    events: list[StoredEvent] = field(default_factory=list)
    """The target's event first, then back along its bases."""
    snapshot: StoredEvent | None = None
    """The state at the oldest event's base, or at the target itself; None when the oldest event is self-contained."""
    from_known: bool = False
    """Whether that state is the caller's own."""
    keyframe: tuple[int, datetime] = (0, datetime.min)
    """With `from_known`: where replaying the checkpoint starts now."""
    writes: list[StoredEvent] = field(default_factory=list)
    head: StreamHead | None = None
    """None if an event was asked for."""
    observed: ObservedHead | None = None
    """None if the checkpoint is the stream's last event and its latest, or an event was asked for."""


@dataclass(slots=True)
class Page:
    """Several checkpoints of one stream, each event once."""

    rows: dict[int, str] = field(default_factory=dict)
    """Ids of checkpoints, by the seq of their current event."""
    snapshots: dict[int, StoredEvent] = field(default_factory=dict)
    events: dict[int, StoredEvent] = field(default_factory=dict)
    """By seq, oldest first; other branches' events included."""
    writes: dict[str, list[StoredEvent]] = field(default_factory=dict)
    """By checkpoint id, oldest first."""

    def add(self, row: Sequence[Any]) -> None:
        """Add a row of the database's answer."""
        part, seq, base_seq, at, id_, _, body = row
        if part == CHECKPOINT:
            self.rows[seq] = id_
        elif part == SNAPSHOT:
            self.snapshots[seq] = StoredEvent(seq, None, at, body)
        elif part == EVENT:
            self.events[seq] = StoredEvent(seq, base_seq, at, body)
        else:
            self.writes.setdefault(id_, []).append(StoredEvent(seq, base_seq, at, body))


def read_path(
    statements: Statements, stream: Stream, checkpoint_id: str | None, known: BaseRef | None
) -> Op[Path | None]:
    """Read one checkpoint (None: the latest), in one round trip; None when there is none.

    Args:
        known: an event of which the caller has the state. If it lies on the path, nothing older is sent.
    """
    params = (*stream, checkpoint_id, *((None, None) if known is None else (str(known.seq), str(known.recorded_at))))
    weight = 0 if known is None else known.state_bytes
    rows = yield Query(statements["read_checkpoint"], params, is_frequent=True, weight=weight)
    if not rows:
        return None
    _, seq, epoch, recorded_at, id_, parent_id, digest = rows[0]
    path = Path(id_, parent_id, seq, recorded_at, epoch, head=StreamHead(seq, epoch, digest))
    for part, row_seq, base_seq, row_at, row_id, _, body in rows[1:]:
        if part == EVENT:
            path.events.append(StoredEvent(row_seq, base_seq, row_at, body))
        elif part == WRITES:
            path.writes.append(StoredEvent(row_seq, base_seq, row_at, body))
        elif part == SNAPSHOT:
            path.snapshot = StoredEvent(row_seq, None, row_at, body)
        elif part == HEAD:
            path.head = StreamHead(row_seq, epoch, digest)
            path.observed = ObservedHead(row_seq, row_id)
        else:
            path.from_known = True
            path.keyframe = base_seq, row_at
    return path


def read_pages(statements: Statements, wanted: Mapping[Stream, Sequence[str]]) -> Op[dict[Stream, Page]]:
    """Read checkpoints of streams, in one round trip. A checkpoint that was erased in the meantime is missing from its
    page."""
    pages = {stream: Page() for stream in wanted}
    if len(wanted) == 1:
        ((stream, page),) = pages.items()
        for row in (yield Query(statements["read_checkpoints"], (*stream, list(wanted[stream])))):
            page.add(row)
        return pages
    params = (
        [stream.thread_id for stream in wanted],
        [stream.checkpoint_ns for stream in wanted],
        [place for place, ids in enumerate(wanted.values(), 1) for _ in ids],
        [id_ for ids in wanted.values() for id_ in ids],
    )
    numbered = dict(enumerate(pages.values(), 1))
    for place, *parts in (yield Query(statements["read_listed"], params)):
        numbered[place].add(parts)
    return pages


def read_writes(statements: Statements, stream: Stream, checkpoint_id: str) -> Op[list[StoredEvent]]:
    """The writes events of a checkpoint, oldest first."""
    rows = yield Query(statements["read_writes"], (*stream, checkpoint_id))
    return [StoredEvent(*row) for row in rows]


def read_events(statements: Statements, stream: Stream, seqs: Sequence[int]) -> Op[list[StoredEvent]]:
    """Events by their numbers, in their order; no query if no numbers are given."""
    if not seqs:
        return []
    rows = yield Query(statements["read_events"], (*stream, list(seqs)))
    return [StoredEvent(*row) for row in rows]


def read_event_path(statements: Statements, stream: Stream, seq: int) -> Op[Path | None]:
    """The rows needed to replay to one checkpoint event, even if it is not its checkpoint's current one any more.

    Walks event by event, as it is rarely used. None if the event does not exist.
    """
    path: Path | None = None
    want: int | None = seq
    while want is not None:
        rows = yield Query(statements["read_event"], (*stream, want))
        # A damaged event that builds on itself or on a later one has no base.
        if not rows or (path is not None and want >= path.events[-1].seq):
            break
        row_seq, base_seq, recorded_at, body, snapshot = rows[0]
        if path is None:
            path = Path("", None, row_seq, recorded_at, 0)
        if snapshot is not None:
            path.snapshot = StoredEvent(row_seq, None, recorded_at, snapshot)
        if snapshot is None or row_seq == seq:
            path.events.append(StoredEvent(row_seq, base_seq, recorded_at, body))
        want = base_seq if snapshot is None else None
    return path


class CheckpointRow(NamedTuple):
    """A checkpoint to read."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    state_bytes: int
    parent_id: str | None = None
    """Only of ancestors."""

    @property
    def stream(self) -> Stream:
        """Its stream."""
        return Stream(self.thread_id, self.checkpoint_ns)


def read_ancestors(statements: Statements, stream: Stream, checkpoint_id: str, rows: int) -> Op[list[CheckpointRow]]:
    """A checkpoint and its ancestors, nearest first, at most `rows` of them."""
    found = yield Query(statements["ancestors"], {**stream._asdict(), "checkpoint_id": checkpoint_id, "rows": rows})
    return [CheckpointRow(*stream, id_, size, parent_id) for id_, parent_id, size in found]


@dataclass(frozen=True, slots=True)
class Selection:
    """The criteria of a listing; None leaves one out."""

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    before_id: str | None = None
    metadata_json: str | None = None


_CRITERIA: dict[str, LiteralString] = {
    "thread_id": "c.thread_id = %(thread_id)s",
    "checkpoint_ns": "c.checkpoint_ns = %(checkpoint_ns)s",
    "checkpoint_id": "c.checkpoint_id = %(checkpoint_id)s",
    "before_id": "c.checkpoint_id < %(before_id)s",
    "metadata_json": "c.metadata @> %(metadata_json)s::jsonb",
}

_AFTER: LiteralString = (
    "(c.checkpoint_id, c.thread_id, c.checkpoint_ns) < (%(after_id)s, %(after_thread)s, %(after_ns)s)"
)


def select_checkpoints(
    statements: Statements, selection: Selection, rows: int, after: CheckpointRow | None
) -> Op[list[CheckpointRow]]:
    """The next checkpoints of a listing, newest first.

    The statement leaves out criteria that are not given, instead of making them true, so that the planner can use the
    primary key even with a generic plan.
    """
    params: dict[str, Any] = {"rows": rows}
    criteria: list[LiteralString] = []
    for name, text in _CRITERIA.items():
        if (value := getattr(selection, name)) is not None:
            params[name] = value
            criteria.append(text)
    if after is not None:
        params.update(after_id=after.checkpoint_id, after_thread=after.thread_id, after_ns=after.checkpoint_ns)
        criteria.append(_AFTER)
    where = sql.SQL(" and ").join(sql.SQL(text) for text in criteria) if criteria else sql.SQL("true")
    statement = statements.compose(statements.template("list_checkpoints"), where=where)
    found = yield Query(statement, params)
    return [CheckpointRow(*row) for row in found]


class CheckpointName(NamedTuple):
    """The name of a checkpoint."""

    thread_id: str
    """The thread."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    checkpoint_id: str
    """The checkpoint."""


def find_checkpoints(
    statements: Statements, prefix: str, thread_id: str | None, checkpoint_ns: str | None, rows: int
) -> Op[list[CheckpointName]]:
    """Checkpoints that have such an id, or begin with it, in the order of thread, namespace and id; of one thread or
    namespace, or of all.

    No index begins with the checkpoint's id. But ids grow with time, so a stream with a smaller latest id has none, and
    in each of the others the primary key leads to it.
    """
    found = yield Query(
        statements["find_checkpoints"],
        {
            "first": prefix,
            # Greater than all ids with this beginning, as they compare by code point.
            "beyond": prefix + "\U0010ffff",
            "thread_id": thread_id,
            "checkpoint_ns": checkpoint_ns,
            "rows": rows,
        },
    )
    return [CheckpointName(*row) for row in found]


def latest_of_thread(statements: Statements, thread_id: str) -> Op[dict[str, str | None]]:
    """The latest checkpoint of each namespace of a thread; None for a namespace without checkpoints."""
    rows = yield Query(statements["latest_of_thread"], (thread_id,))
    return dict(rows)
