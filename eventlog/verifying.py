"""Verifying the log: every digest computed anew, here and not in the database, and every number accounted for.

Each event's digest covers the one before it in its stream, its number, time and identity, and its body as stored
(``sql/functions/01`` and ``02``). Where something was erased, a record says which numbers are gone and with which
digest the chain goes on. What was carried forward is outside of the chain, with a digest of its own that a record
lists.

Nothing is decoded and no key is needed, nothing is locked, and a replica will do. Appends go on meanwhile: a stream
that does not fit is read once more before anything is said of it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, NamedTuple

from eventlog.events import Kind
from eventlog.identity import Stream
from eventlog.operations import Op, Query
from eventlog.statements import Statements

__all__ = ["Problem", "lost_streams", "streams_to_verify", "verify_stream"]

#: Events that are in memory at a time.
PAGE_EVENTS = 500

_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)


class Problem(NamedTuple):
    """One place where the log is not what was appended."""

    thread_id: str
    checkpoint_ns: str
    seq: int
    what: str


class _Event(NamedTuple):
    """In the order of the statement."""

    seq: int
    recorded_at: datetime
    kind: int
    checkpoint_id: str
    base_seq: int | None
    as_of: datetime | None
    first_at: datetime | None
    digest: bytes
    body: bytes

    @property
    def is_record(self) -> bool:
        return self.kind > Kind.WRITES_SAVED

    @property
    def is_carried(self) -> bool:
        return not self.is_record and self.as_of is not None

    def leaf(self, stream: Stream) -> bytes:
        """What the event adds to the chain."""
        identity = b"".join(sha256(text.encode()).digest() for text in (*stream, self.checkpoint_id))
        return sha256(
            struct.pack(">h", self.kind) + identity + _int8(self.base_seq or 0) + sha256(self.body).digest()
        ).digest()


def streams_to_verify(statements: Statements, threads: list[str] | None, after: Stream, limit: int) -> Op[list[Stream]]:
    """The next streams, in the order of thread and namespace.

    Args:
        threads: of these; None: of all.
    """
    params = {"thread": after.thread_id, "ns": after.checkpoint_ns, "threads": threads, "rows": limit}
    rows = yield Query(statements["verify_streams"], params)
    return [Stream(*row) for row in rows]


def lost_streams(statements: Statements, threads: list[str] | None) -> Op[list[Problem]]:
    """Streams that have events, and no row that would say where they end. Reads all events' keys."""
    rows = yield Query(statements["verify_lost"], {"threads": threads})
    return [Problem(thread_id, ns, 0, "it has events, and its row in `streams` is missing") for thread_id, ns in rows]


def verify_stream(statements: Statements, stream: Stream) -> Op[tuple[int, list[Problem]]]:
    """Verify one stream; returns how many events it has, and what does not fit, first things first."""
    events, problems = yield from _verify(statements, stream)
    if problems:
        # The stream may have changed between two of the queries. What is wrong with it is so the next time too.
        events, again = yield from _verify(statements, stream)
        problems = [problem for problem in again if problem in problems]
    return events, problems


def _verify(statements: Statements, stream: Stream) -> Op[tuple[int, list[Problem]]]:
    tips = yield Query(statements["verify_tip"], stream)
    if not tips:
        return 0, []  # dropped meanwhile, with its last partition; or lost, which `lost_streams` sees
    ((last, tip, begins_at, has_data),) = tips
    records = yield Query(statements["verify_records"], (*stream, begins_at))
    chain = _Chain(stream, last, tip, has_data)
    chain.read_records(records)
    after = 0
    while True:
        rows = yield Query(statements["verify_events"], (*stream, begins_at, after, PAGE_EVENTS))
        for row in rows:
            chain.check(_Event(*row))
        if len(rows) < PAGE_EVENTS:
            break
        # Of a number that is there twice, the second may be on the next page.
        after = rows[-1][0] - 1
        if rows[0][0] == rows[-1][0]:
            break
    chain.finish()
    return chain.count, chain.problems


@dataclass(slots=True)
class _Chain:
    """One stream on its way from its first event to its tip."""

    stream: Stream
    last: int
    tip: bytes
    has_data: bool
    problems: list[Problem] = field(default_factory=list)
    count: int = 0
    seq: int = 0
    digest: bytes = b""
    recorded_at: datetime | None = None
    seen: tuple[int, datetime] | None = None
    gone: list[tuple[int, int, int]] = field(default_factory=list)
    """Ranges of numbers that records speak for, and the records' numbers."""
    vouched: dict[int, bytes] = field(default_factory=dict)
    """The digests of their ends."""
    carried: dict[int, str] = field(default_factory=dict)
    """What was carried forward and is to be there: number to digest."""

    def problem(self, seq: int, what: str) -> None:
        self.problems.append(Problem(*self.stream, seq, what))

    def read_records(self, rows: list[tuple[Any, ...]]) -> None:
        """What the stream's records say, oldest first."""
        for seq, kind, as_of, body in rows:
            try:
                says = json.loads(body[1:])
                ranges = [
                    (int(first), int(end), bytes.fromhex(digest)) for first, end, digest in says.get("erased", [])
                ]
                uncarried = [int(each) for each in says.get("uncarried", [])]
                carried = {int(number): str(digest) for number, digest in says.get("carried", [])}
                before = says.get("before")
                if (before and datetime.fromisoformat(before)) != as_of:
                    self.problem(seq, "a record with another time than it says")
            except (ValueError, TypeError, AttributeError):
                self.problem(seq, "a record that cannot be read")
                continue
            for first, end, digest in ranges:
                self.gone.append((first, end, seq))
                self.vouched[end] = digest
            if kind == Kind.THREAD_DELETED:
                self.carried.clear()
            for number in uncarried:
                self.carried.pop(number, None)
            self.carried.update(carried)
        self.gone.sort()

    def check(self, event: _Event) -> None:
        """The next event."""
        place = (event.seq, event.recorded_at)
        if self.seen is not None and place <= self.seen:
            return  # the end of the page before
        if event.seq > self.last:
            self.problem(event.seq, "inserted: it is beyond the stream's last number")
            return
        if self.seen is not None and self.seen[0] == event.seq:
            self.problem(event.seq, "inserted: the number is there twice")
        self._account_for(event.seq - 1)
        self.seen = place
        self.count += 1
        if event.is_carried:
            self._check_carried(event)
        else:
            self._check_chained(event)

    def _check_chained(self, event: _Event) -> None:
        if not event.is_record and any(first <= event.seq <= end for first, end, by in self.gone if by > event.seq):
            self.problem(event.seq, "put back: a record says that it went")
        before = self.digest if self.seq == event.seq - 1 else self.vouched.get(event.seq - 1)
        self.seq, self.digest = event.seq, event.digest
        if self.recorded_at is not None and event.recorded_at < self.recorded_at:
            self.problem(event.seq, "reordered: it is older than the one before")
        self.recorded_at = event.recorded_at
        if before is None:
            # Of a stream that is no more, records go with their partitions; the last covers all before it.
            if self.has_data or not event.is_record:
                self.problem(event.seq, "no record says how the chain goes on here")
            return
        digest = sha256(before + _int8(event.seq) + _time(event.recorded_at) + event.leaf(self.stream)).digest()
        if digest != event.digest:
            self.problem(event.seq, "altered, or another one was there before it")

    def _check_carried(self, event: _Event) -> None:
        assert event.as_of is not None
        times = _time(event.recorded_at) + _time(event.as_of) + _time(event.first_at or event.as_of)
        digest = sha256(_int8(event.seq) + times + event.leaf(self.stream)).digest()
        if digest != event.digest:
            self.problem(event.seq, "altered since it was carried forward")
        elif self.carried.get(event.seq) != digest.hex():
            self.problem(event.seq, "inserted: no record says that it was carried forward")
        self.carried.pop(event.seq, None)

    def _account_for(self, until: int) -> None:
        """That the numbers since the last event are those of something erased."""
        start = (self.seen[0] if self.seen else 0) + 1
        for first, end in self._missing(start, until):
            numbers = f"{first}" if first == end else f"{first} to {end}"
            self.problem(first, f"missing: no record says that {numbers} went")

    def _missing(self, start: int, until: int) -> Iterator[tuple[int, int]]:
        for first, end, _ in self.gone:
            if first > until or start > until:
                break
            if first > start:
                yield start, first - 1
            start = max(start, end + 1)
        if start <= until:
            yield start, until

    def finish(self) -> None:
        """After the last event."""
        self._account_for(self.last)
        for seq in sorted(self.carried):
            self.problem(seq, "missing: it was carried forward")
        if self.seq != self.last or self.digest != self.tip:
            self.problem(self.last, "the last event is missing, or another one")
        self.problems.sort(key=lambda each: each.seq)


def _int8(value: int) -> bytes:
    return struct.pack(">q", value)


def _time(at: datetime) -> bytes:
    return _int8((at - _EPOCH) // timedelta(microseconds=1))
