"""Comparing the live projections and snapshots with what the log says.

What is compared: all columns of `streams`; all of `checkpoints` but for the keyframe, which may be another one, as long
as it is a checkpoint's event that is there and not behind the row's own; of snapshots, that each is the state at its
event. Snapshots may be fewer or more than would be taken now: when they are taken depends on settings.

An append changes log and projections in one transaction, so at any one moment the two agree. That is why a comparison
runs in a transaction that sees one moment (repeatable read): it needs no lock, and what it finds is not a change that
it happened to come across.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from psycopg import sql

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import LogCorruptedError
from eventlog.format.codec import Codec
from eventlog.streams import Stream
from projections.derive import CheckpointRows, Derivation
from snapshots.state import CheckpointState

__all__ = [
    "EXAMPLES",
    "TABLES",
    "Comparer",
    "Differences",
    "OnDifference",
    "RowDifference",
    "examples_json",
    "stray_streams",
]

TABLES = ("streams", "checkpoints", "snapshots")

#: Differences of one stream that are named; the rest is counted.
EXAMPLES = 20

#: Characters of a value that are shown.
SHOWN = 64


class RowDifference(NamedTuple):
    """One row that is not what the log says."""

    thread_id: str
    checkpoint_ns: str
    table: str
    key: str
    """What tells the row from others of the stream: a checkpoint id or an event's number; of `streams`, nothing."""
    what: Literal["missing", "surplus", "different"]
    columns: tuple[str, ...] = ()
    """In which it differs."""
    live: tuple[str | None, ...] = ()
    """What is there in these columns, in short; of metadata, a hash."""
    derived: tuple[str | None, ...] = ()
    """What should be there."""


#: Told of each difference that is named.
OnDifference = Callable[[RowDifference], None]


@dataclass(slots=True)
class Differences:
    """How many rows differ, and the first few."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    """By table."""
    examples: list[RowDifference] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.counts.values())

    def add(self, difference: RowDifference) -> None:
        """Count a row, and remember it if it is among the first."""
        self.counts[difference.table] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(difference)


class Comparer:
    """A sink that compares: create one for each derivation.

    Args:
        statements: for the schema.
        codec: decodes snapshots.
    """

    def __init__(self, statements: Statements, codec: Codec) -> None:
        self._statements = statements
        self._codec = codec
        self._snapshots: dict[int, datetime] = {}
        self._checkpoints_found = 0
        self._snapshots_found = 0
        self.found = Differences()
        self.rows = 0
        """Of `checkpoints`, derived."""

    def page(self, stream: Stream, after: int, last: int) -> Op[None]:
        """Look where live snapshots are."""
        self._snapshots = dict((yield Query(self._statements["compare_snapshots"], (*stream, after, last))))

    def state(self, stream: Stream, frame: CheckpointState, snapshot: bytes | None) -> Op[None]:
        """Compare the live snapshot, if there is one, with the state."""
        if frame.seq not in self._snapshots:
            return
        self._snapshots_found += 1
        recorded_at = self._snapshots[frame.seq]
        if recorded_at != frame.recorded_at:
            values = ((recorded_at.isoformat(),), (str(frame.recorded_at and frame.recorded_at.isoformat()),))
            self._add(stream, "snapshots", str(frame.seq), "different", ("recorded_at",), *values)
            return
        ((body,),) = yield Query(self._statements["compare_snapshot"], (*stream, frame.seq))
        try:
            contents = self._codec.decode_snapshot(body, f"the snapshot at {stream.describe_event(frame.seq)}")
            is_same = contents == (frame.versions, frame.seen, frame.channels)
            live = "another state"
        except LogCorruptedError:
            is_same, live = False, "does not decode"
        if not is_same:
            self._add(stream, "snapshots", str(frame.seq), "different", ("body",), (live,), ("the state",))

    def checkpoints(self, stream: Stream, rows: CheckpointRows) -> Op[None]:
        """Compare rows of `checkpoints`."""
        self.rows += len(rows.rows)
        self._checkpoints_found += len(rows.rows)
        found = yield Query(self._statements["compare_checkpoints"], (rows.json,))
        for id_, columns, live, derived, is_missing in found:
            if is_missing:
                self._checkpoints_found -= 1
                self._add(stream, "checkpoints", id_, "missing")
            else:
                self._add(stream, "checkpoints", id_, "different", columns, live, derived)

    def end(self, derivation: Derivation) -> Op[None]:
        """Compare the row of `streams`, and look for rows that no event speaks for."""
        stream = derivation.stream
        params = {**stream._asdict(), "row": derivation.row()}
        found = yield Query(self._statements["compare_stream"], params)
        if found and found[0][3]:
            self._add(stream, "streams", "", "missing")
        elif found:
            columns, live, derived, _ = zip(*found, strict=True)
            self._add(stream, "streams", "", "different", columns, live, derived)
        if derivation.is_continued:
            return  # what was there before was compared then
        ((checkpoints, snapshots),) = yield Query(self._statements["compare_counts"], stream._asdict())
        params = {**stream._asdict(), "begins_at": derivation.begins_at, "rows": EXAMPLES}
        for table, surplus in (
            ("checkpoints", checkpoints - self._checkpoints_found),
            ("snapshots", snapshots - self._snapshots_found),
        ):
            if surplus:
                keys = yield Query(self._statements[f"compare_surplus_{table}"], params)
                for (key,) in keys:
                    self._add(stream, table, str(key), "surplus")
                self.found.counts[table] += surplus - len(keys)

    def _add(
        self,
        stream: Stream,
        table: str,
        key: str,
        what: Literal["missing", "surplus", "different"],
        columns: tuple[str, ...] = (),
        live: tuple[str | None, ...] = (),
        derived: tuple[str | None, ...] = (),
    ) -> None:
        self.found.add(
            RowDifference(
                *stream, table, key, what, tuple(columns), tuple(map(_short, live)), tuple(map(_short, derived))
            )
        )


def stray_streams(
    statements: Statements, table: str, after: Stream, limit: int
) -> Op[tuple[list[RowDifference], Stream | None]]:
    """Streams that have rows in a table and no event, among the next ones that have rows; and where to go on, if so."""
    params = {**after._asdict(), "rows": limit}
    statement = statements.compose(statements.template("compare_strays"), table=sql.Identifier(table))
    rows = yield Query(statement, params)
    strays = [RowDifference(thread_id, ns, table, "", "surplus") for thread_id, ns, is_stray in rows if is_stray]
    return strays, Stream(*rows[-1][:2]) if len(rows) == limit else None


def _short(value: str | None) -> str | None:
    return value if value is None or len(value) <= SHOWN else value[: SHOWN - 1] + "…"


def examples_json(differences: list[RowDifference]) -> str:
    """Differences as a JSON array, for the database."""
    return json.dumps([each._asdict() for each in differences])
