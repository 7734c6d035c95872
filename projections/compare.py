"""Comparing the live projections and snapshots with what the log says.

The comparison covers:

* all columns of `streams`;
* all columns of `checkpoints` except the keyframe, which may differ, as long as it is an existing event of a checkpoint
  and not later than the row's own event;
* the content of each snapshot, which must be the state at its event. The number of snapshots may differ, because
  settings decide when they are taken.

An append changes log and projections in one transaction, so the two agree at every moment. A comparison therefore runs
in a transaction with a single view (repeatable read). It needs no lock, and never reports an append in progress.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from psycopg import sql

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import LogCorruptedError
from eventlog.format.codec import Codec
from eventlog.streams import Stream
from projections.derive import Derivation
from snapshots.state import CheckpointState

__all__ = [
    "EXAMPLES",
    "TABLES",
    "Comparer",
    "Differences",
    "OnDifference",
    "RowDifference",
    "surplus_keys",
]

TABLES = ("streams", "checkpoints", "snapshots")

#: The column that identifies a row of these tables within its stream; events have it too.
KEYS = {"checkpoints": "checkpoint_id", "snapshots": "seq"}

#: Differences of one stream that are reported in detail; further ones are only counted.
EXAMPLES = 20

#: Characters of a value that are shown.
SHOWN = 64


What: TypeAlias = Literal["missing", "surplus", "different", "events are missing"]


class RowDifference(NamedTuple):
    """A row of a derived table that does not match the log."""

    thread_id: str
    """The thread."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    table: str
    """The table."""
    key: str
    """The checkpoint's id or the event's number; empty for `streams`."""
    what: What
    """`"missing"`, `"surplus"`, `"different"`, or `"events are missing"`: the row counts more events than the log
    has."""
    columns: tuple[str, ...] = ()
    """The differing columns."""
    live: tuple[str | None, ...] = ()
    """Their present content in short; of metadata, a hash."""
    derived: tuple[str | None, ...] = ()
    """The content by the log."""


#: Told of each difference that is named.
OnDifference = Callable[[RowDifference], None]


@dataclass(slots=True)
class Differences:
    """How many rows of a stream differ, and the first few."""

    stream: Stream
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    """By table."""
    examples: list[RowDifference] = field(default_factory=list)
    lost: tuple[int, int] | None = None
    """The number of the last event, and the greater one that `streams` has."""

    def __bool__(self) -> bool:
        return any(self.counts.values())

    def add_to(self, totals: dict[str, int]) -> None:
        """Add the counts to those of other streams."""
        for table, count in self.counts.items():
            totals[table] += count

    def add(self, difference: RowDifference) -> None:
        """Count a row, and remember it if it is among the first."""
        self.counts[difference.table] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(difference)


class Comparer:
    """A sink that compares. Create one for each derivation, or for each page, to keep its changes.

    Args:
        statements: for the schema.
        codec: decodes snapshots.
        stream: what is compared.
    """

    def __init__(self, statements: Statements, codec: Codec, stream: Stream) -> None:
        self._statements = statements
        self._codec = codec
        self._live: dict[int, tuple[datetime, bytes | None]] = {}
        self._matched = dict.fromkeys(KEYS, 0)
        self.found = Differences(stream)
        self.derived = 0
        """Rows of `checkpoints`."""

    def page(self, stream: Stream, after: int, last: int) -> Op[None]:
        """Find the numbers of the live snapshots."""
        rows = yield Query(self._statements["compare_snapshots"], (*stream, after, last))
        self._live = {seq: (recorded_at, body) for seq, recorded_at, body in rows}

    def state(self, stream: Stream, frame: CheckpointState, *, is_due: bool) -> Op[None]:
        """Compare the live snapshot, if there is one, with the state."""
        if frame.seq not in self._live:
            return
        recorded_at, body = self._live[frame.seq]
        self._matched["snapshots"] += 1
        if recorded_at != frame.recorded_at:
            values = ((recorded_at.isoformat(),), (str(frame.recorded_at and frame.recorded_at.isoformat()),))
            self._add("snapshots", str(frame.seq), "different", ("recorded_at",), *values)
            return
        if body is None:
            ((body,),) = yield Query(self._statements["compare_snapshot"], (*stream, frame.seq))
        try:
            contents = self._codec.decode_snapshot(body, f"the snapshot at {stream.describe_event(frame.seq)}")
            is_same = contents == (frame.versions, frame.seen, frame.channels)
            live = "another state"
        except LogCorruptedError:
            is_same, live = False, "does not decode"
        if not is_same:
            self._add("snapshots", str(frame.seq), "different", ("body",), (live,), ("the state",))

    def checkpoints(self, stream: Stream, rows: dict[str, str]) -> Op[None]:
        """Compare rows of `checkpoints`."""
        self.derived += len(rows)
        self._matched["checkpoints"] += len(rows)
        params = {**stream._asdict(), "rows": f"[{', '.join(rows.values())}]"}
        for id_, columns, live, derived, is_missing in (yield Query(self._statements["compare_checkpoints"], params)):
            if is_missing:
                self._matched["checkpoints"] -= 1
                self._add("checkpoints", id_, "missing")
            else:
                self._add("checkpoints", id_, "different", columns, live, derived)

    def end(self, derivation: Derivation) -> Op[None]:
        """Called after the last event: compare the row of `streams`, and look for rows without an event."""
        stream = derivation.stream
        params = {**stream._asdict(), "row": derivation.row()}
        found = yield Query(self._statements["compare_stream"], params)
        if found and found[0][3]:
            if derivation.seq:
                self._add("streams", "", "missing")
        elif found:
            columns, live, derived, _ = zip(*found, strict=True)
            last = dict(zip(columns, live, strict=True)).get("seq")
            if last is not None and int(last) > derivation.seq:
                self.found.lost = derivation.seq, int(last)
            what: What = "events are missing" if self.found.lost else "different"
            self._add("streams", "", what, columns, live, derived)
        (counts,) = yield Query(self._statements["compare_counts"], stream._asdict())
        for table, count in zip(KEYS, counts, strict=True):
            if surplus := count - self._matched[table]:
                keys = yield from surplus_keys(self._statements, derivation, table, EXAMPLES)
                for key in keys:
                    self._add(table, str(key), "surplus")
                self.found.counts[table] += surplus - len(keys)

    def _add(
        self,
        table: str,
        key: str,
        what: What,
        columns: Sequence[str] = (),
        live: Sequence[str | None] = (),
        derived: Sequence[str | None] = (),
    ) -> None:
        short = [tuple(map(_short, each)) for each in (live, derived)]
        self.found.add(RowDifference(*self.found.stream, table, key, what, tuple(columns), *short))


def surplus_keys(statements: Statements, derivation: Derivation, table: str, limit: int) -> Op[list[Any]]:
    """The first keys of a stream's rows in a table that have no event."""
    statement = statements.compose(
        statements.template("compare_surplus"), table=sql.Identifier(table), key=sql.Identifier(KEYS[table])
    )
    params = {**derivation.stream._asdict(), "begins_at": derivation.begins_at, "rows": limit}
    return [key for (key,) in (yield Query(statement, params))]


def _short(value: str | None) -> str | None:
    return value if value is None or len(value) <= SHOWN else value[: SHOWN - 1] + "…"
