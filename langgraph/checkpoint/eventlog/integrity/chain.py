"""One stream's chain of digests, computed anew event by event, and every number accounted for.

Each event's digest covers the one before it in its stream, its number, time and identity, and its body as stored
(`event_leaf_v1` and `next_digest_v1`). Where something was erased, a record says which numbers are gone and with which
digest the chain goes on. What was relocated is outside of the chain, with a digest of its own that a record
lists. What seals say of the stream must be so too, or be gone.
"""

from __future__ import annotations

import json
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from heapq import heappop, heappush
from typing import NamedTuple

from eventlog.events import Kind, StoredEvent
from eventlog.seals import microseconds
from eventlog.streams import Stream

__all__ = ["Chain", "Problem", "Tip"]

#: Problems of one stream that are kept; the others are counted.
MOST_PROBLEMS = 1_000


class Problem(NamedTuple):
    """One place where the log, or what is derived from it, is not what was appended."""

    thread_id: str
    """Empty where nothing is left that would say it."""
    checkpoint_ns: str
    seq: int
    what: str
    seal: int | None = None
    """The seal that says so, if it is one."""
    stream: str | None = None
    """What seals call the stream, in hex, where its thread is not known."""


class Tip(NamedTuple):
    """Where a stream ends. In the order of the statement."""

    thread_id: str
    checkpoint_ns: str
    seq: int
    digest: bytes
    begins_at: bytes | None
    has_data: bool

    @property
    def stream(self) -> Stream:
        """Whose it is."""
        return Stream(self.thread_id, self.checkpoint_ns)

    def is_expired(self, recorded_at: datetime) -> bool:
        """Whether nobody reads what was recorded then."""
        return self.begins_at is not None and _int8(microseconds(recorded_at)) < _int8(self.begins_at)


@dataclass(slots=True)
class Chain:
    """One stream on its way from its first event to its tip: `read_records`, then `check` each event, then `finish`."""

    tip: Tip
    problems: list[Problem] = field(default_factory=list)
    """The first ones."""
    found: int = 0
    """How many problems there are."""
    count: int = 0
    """How many events there are."""
    is_lost: bool = False
    """It has no row in `streams`."""
    _seq: int = 0
    _digest: bytes = b""
    _recorded_at: datetime | None = None
    _position: int | None = None
    _last: int = 0
    _gone: list[tuple[int, int, int]] = field(default_factory=list)
    """Ranges of numbers that records speak for, and the records' numbers, by their beginnings."""
    _vouched: dict[int, bytes] = field(default_factory=dict)
    """The digests of their ends."""
    _relocated: dict[int, str] = field(default_factory=dict)
    """What was relocated and is to be there: number to digest."""
    _records: dict[int, datetime] = field(default_factory=dict)
    """Records that were there when the stream ended, and are yet to be met: number to time."""
    _sealed: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    """What seals say: number to seals and digests."""
    _began: int = 0
    """How many of the ranges begin at or before the event, in `_under_way` as long as they have not ended."""
    _under_way: list[tuple[int, int]] = field(default_factory=list)
    _covered: list[tuple[int, int]] = field(default_factory=list)
    """The ranges, joined where they touch."""
    _ids: bytes = b""

    def __post_init__(self) -> None:
        # What the digests of all its events have in common.
        self._ids = b"".join(sha256(text.encode()).digest() for text in self.tip.stream)

    def problem(self, seq: int, what: str, seal: int | None = None) -> None:
        """Something does not fit."""
        self.found += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(*self.tip.stream, seq, what, seal))

    def read_seal(self, seal: int, seq: int, digest: bytes) -> None:
        """A seal's entry for the stream: the number and the digest of its last event."""
        self._sealed.setdefault(seq, []).append((seal, digest))

    def read_records(self, rows: list[tuple[int, int, bytes, bytes | None]]) -> None:
        """What the stream's records say, oldest first: number, kind, body, as_of."""
        for seq, kind, body, as_of in rows:
            try:
                says = json.loads(body[1:])
                ranges = [
                    (int(first), int(end), bytes.fromhex(digest)) for first, end, digest in says.get("erased", [])
                ]
                lost = {int(end): bytes.fromhex(digest) for _, end, digest in says.get("lost", [])}
                superseded = [int(each) for each in says.get("uncarried", [])]
                relocated = {int(number): str(digest) for number, digest in says.get("carried", [])}
                records = {int(number): _time(at) for number, at in says.get("records", [])}
                before = says.get("before")
                if (before and microseconds(_time(before))) != as_of:
                    self.problem(seq, "a record with another time than it says")
            except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                self.problem(seq, "a record that cannot be read")
                continue
            for first, end, digest in ranges:
                self._gone.append((first, end, seq))
                self._vouched[end] = digest
            # The chain goes on behind it, and it stays missing.
            self._vouched.update(lost)
            if kind == Kind.THREAD_DELETED:
                self._relocated.clear()
            for number in superseded:
                self._relocated.pop(number, None)
            self._relocated.update(relocated)
            self._records.update((number, at) for number, at in records.items() if not self.tip.is_expired(at))
        self._gone.sort()
        for first, end, _ in self._gone:
            if self._covered and first <= self._covered[-1][1] + 1:
                first, before = self._covered.pop()
                end = max(before, end)
            self._covered.append((first, end))

    def check(self, event: StoredEvent, as_of: bytes | None, first_at: bytes | None) -> None:
        """The next event.

        Args:
            as_of, first_at: as PostgreSQL sends them: no partition bounds them.
        """
        if event.seq > self.tip.seq:
            self.problem(event.seq, "inserted: it is beyond the stream's last number")
            return
        if self._last == event.seq:
            self.problem(event.seq, "inserted: the number is there twice")
        self._account_for(event.seq - 1)
        self._last = event.seq
        self.count += 1
        if event.base_seq is not None and event.base_seq < 1:
            # A digest does not tell 0 from none.
            self.problem(event.seq, "altered: there is no event that its base could be")
        if event.kind <= Kind.WRITES_SAVED and as_of is not None:
            self._check_relocated(event, as_of, first_at or as_of)
        else:
            self._check_chained(event)

    def _check_chained(self, event: StoredEvent) -> None:
        is_record = event.kind > Kind.WRITES_SAVED
        if not is_record and self._gone_by(event.seq) > event.seq:
            self.problem(event.seq, "put back: a record says that it went")
        before = self._digest if self._seq == event.seq - 1 else self._vouched.get(event.seq - 1)
        self._seq, self._digest = event.seq, event.digest
        if self._recorded_at is not None and event.recorded_at < self._recorded_at:
            self.problem(event.seq, "reordered: it is older than the one before")
        if self._position is not None and event.position <= self._position:
            self.problem(event.seq, "its position is not after that of the one before")
        self._recorded_at, self._position = event.recorded_at, event.position
        if is_record:
            self._records.pop(event.seq, None)
        for seal, digest in self._sealed.pop(event.seq, ()):
            if digest != event.digest:
                self.problem(event.seq, "altered: it was sealed with another digest", seal)
        if before is None:
            # Of a stream that is no more, records go with their partitions; the last covers all before it.
            if self.tip.has_data or not is_record:
                self.problem(event.seq, "no record says how the chain goes on here")
            return
        digest = sha256(
            before + struct.pack(">q", event.seq) + microseconds(event.recorded_at) + self._leaf(event)
        ).digest()
        if digest != event.digest:
            self.problem(event.seq, "altered, or another one was there before it")

    def _check_relocated(self, event: StoredEvent, as_of: bytes, first_at: bytes) -> None:
        times = microseconds(event.recorded_at) + as_of + first_at
        digest = sha256(struct.pack(">q", event.seq) + times + self._leaf(event)).digest()
        if digest != event.digest:
            self.problem(event.seq, "altered since it was carried forward")
        elif self._relocated.get(event.seq) != digest.hex():
            self.problem(event.seq, "inserted: no record says that it was carried forward")
        self._relocated.pop(event.seq, None)

    def _leaf(self, event: StoredEvent) -> bytes:
        return sha256(
            struct.pack(">h", event.kind)
            + self._ids
            + sha256(event.checkpoint_id.encode()).digest()
            + struct.pack(">q", event.base_seq or 0)
            + sha256(event.body).digest()
        ).digest()

    def _gone_by(self, seq: int) -> int:
        """The last record that says that a number is gone, 0 without one. Numbers only grow from call to call."""
        while self._began < len(self._gone) and self._gone[self._began][0] <= seq:
            _, end, by = self._gone[self._began]
            heappush(self._under_way, (-by, end))
            self._began += 1
        while self._under_way and self._under_way[0][1] < seq:
            heappop(self._under_way)
        return -self._under_way[0][0] if self._under_way else 0

    def _account_for(self, until: int) -> None:
        """That the numbers since the last event are those of something erased."""
        start = self._last + 1
        place = max(0, bisect_right(self._covered, (start, self.tip.seq)) - 1)
        while start <= until:
            first, end = self._covered[place] if place < len(self._covered) else (until + 1, until)
            if start < first:
                last = min(until, first - 1)
                numbers = f"{start}" if start == last else f"{start} to {last}"
                self.problem(start, f"missing: no record says that {numbers} went")
            start = max(start, end + 1)
            place += 1

    @property
    def misses_records(self) -> bool:
        """Whether a record is not there, perhaps because it went with its partition."""
        return bool(self._records)

    def finish(self, partitions: Sequence[tuple[datetime, datetime]] = ()) -> None:
        """After the last event.

        Args:
            partitions: those that are there, if `misses_records`.
        """
        self._account_for(self.tip.seq)
        for seq, at in sorted(self._records.items()):
            if any(starts_at <= at < ends_at for starts_at, ends_at in partitions):
                self.problem(seq, "missing: a record, which did not go with its partition")
        for seq in sorted(self._relocated):
            self.problem(seq, "missing: it was carried forward")
        if self._seq != self.tip.seq or self._digest != self.tip.digest:
            self.problem(self.tip.seq, "the last event is missing, or another one")
        self._check_sealed()
        self.problems.sort(key=lambda each: each.seq)

    def _check_sealed(self) -> None:
        """What was sealed and has no event any more."""
        for seq, seals in sorted(self._sealed.items()):
            place = bisect_right(self._covered, (seq, self.tip.seq)) - 1
            is_gone = place >= 0 and self._covered[place][0] <= seq <= self._covered[place][1]
            for seal, digest in seals:
                if seq > self.tip.seq:
                    self.problem(seq, "missing: it is sealed, and the stream's last number is smaller", seal)
                elif is_gone and self._vouched.get(seq, digest) != digest:
                    self.problem(seq, "it was sealed with another digest than the record of its erasure has", seal)
                elif not is_gone:
                    self.problem(seq, "missing: it is sealed, and no record says that it went", seal)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at


def _int8(sent: bytes) -> int:
    return int.from_bytes(sent, "big", signed=True)
