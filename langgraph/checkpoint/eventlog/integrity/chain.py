"""One stream's chain of digests, computed again number by number, as `eventlog.format.digest` defines it.

A number is accounted for by its event; by its stub, if a record says that the event was erased; or by an anchor, if the
event went with its partition. A relocated event is in the chain with the leaf of the original, and a record lists the
digest of its new row. The numbers and digests in seals must match too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from eventlog.events import Kind, StoredEvent
from eventlog.format.digest import content_digest, event_leaf, microseconds, next_digest, relocation_digest
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog.integrity.bounds import Bounds, int8
from langgraph.checkpoint.eventlog.integrity.stubs import Records

__all__ = ["Chain", "PartitionTimes", "Problem", "Tip"]

#: Problems of one stream that are kept; the others are counted.
MOST_PROBLEMS = 1_000


class Problem(NamedTuple):
    """A place where the log or a derived table is not as appended."""

    thread_id: str
    """The thread; empty when it is not known."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    seq: int
    """The event's number; 0 when the problem concerns no event."""
    what: str
    """The problem, in words."""
    seal: int | None = None
    """The seal that shows it, if any."""
    stream: str | None = None
    """The stream's name in hex, when its thread is not known."""


class Tip(NamedTuple):
    """The end of a stream. In the order of the statement."""

    thread_id: str
    checkpoint_ns: str
    seq: int
    digest: bytes
    name: bytes | None
    """For a stream without a row: its name in seals, if they contain it."""
    begins_at: bytes | None

    @property
    def stream(self) -> Stream:
        """The stream."""
        return Stream(self.thread_id, self.checkpoint_ns)

    def is_expired(self, recorded_at: datetime) -> bool:
        """Whether readers skip events recorded at that time."""
        return self.begins_at is not None and int8(microseconds(recorded_at)) < int8(self.begins_at)


class PartitionTimes(NamedTuple):
    """A partition that exists or was dropped."""

    starts_at: datetime
    ends_at: datetime
    is_dropped: bool


@dataclass(slots=True)
class Chain:
    """One stream on its way from its first event to its tip: `read_records`, then `check` each event, then `finish`."""

    tip: Tip
    problems: list[Problem] = field(default_factory=list)
    """The first problems."""
    found: int = 0
    """How many problems there are."""
    count: int = 0
    """How many events there are."""
    is_lost: bool = False
    """It has no row in `streams`."""
    sealed_through: int = 0
    """The last number that the latest seal covers; 0: it does not have the stream."""
    covered: int = 0
    """How many of the events it covers."""
    _records: Records = field(default_factory=Records)
    _sealed: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    """Entries of seals that were not reached yet: number to seals and digests."""
    _earliest: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By number that a seal does not cover: the earliest possible time of its event, and that seal."""
    _seq: int = 0
    """The last number that is accounted for, and its digest; None if it cannot be determined."""
    _digest: bytes | None = b""
    _at: bytes = b""
    """Its time, as PostgreSQL sends it."""
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)
    """The last position and transaction id of each node; one server is node 0."""
    _dropped: int = 0
    """The first number that only the anchor accounts for."""

    @classmethod
    def without_row(cls, stream: Stream) -> Chain:
        """A stream without a row in `streams` and without events."""
        return cls(Tip(*stream, 0, b"", None, None), is_lost=True)

    def problem(self, seq: int, what: str, seal: int | None = None) -> None:
        """Add a problem."""
        self.found += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(*self.tip.stream, seq, what, seal))

    def add(self, found: int, problems: Sequence[Problem]) -> None:
        """Count further problems, and keep the first of them."""
        self.found += found
        self.problems += problems[: MOST_PROBLEMS - len(self.problems)]

    def read_seals(self, rows: list[tuple[int, int, bytes]], bounds: Bounds) -> None:
        """Take in the stream's entries in seals: the seal's number, and the number and digest of the last event."""
        for seal, seq, digest in rows:
            self._sealed.setdefault(seq, []).append((seal, digest))
        last = bounds.seals[-1] if bounds.seals else 0
        self.sealed_through = max((seq for seal, seq, _ in rows if seal <= last), default=0)
        self._earliest = bounds.earliest([(seal, seq) for seal, seq, _ in rows])

    def read_records(self, rows: list[tuple[int, bytes, bytes | None]]) -> None:
        """Take in the stream's records, oldest first: number, body, as_of."""
        for seq, body, as_of in rows:
            if wrong := self._records.read(seq, body, as_of):
                self.problem(seq, wrong)
        standing = self._records.standing
        self._records.standing = {seq: at for seq, at in standing.items() if not self.tip.is_expired(at)}

    def check(
        self,
        event: StoredEvent,
        xid: int,
        as_of: bytes | None,
        first_at: bytes | None,
        bounds: Bounds,
        *,
        is_ahead: bool,
    ) -> None:
        """The next event.

        Args:
            as_of, first_at: as PostgreSQL sends them: no partition bounds them.
            is_ahead: whether the server has not assigned its transaction id yet.
        """
        seq, is_record = event.seq, event.kind > Kind.WRITES_SAVED
        if seq > self.tip.seq:
            self.problem(seq, "inserted: it is beyond the stream's last number")
            return
        if seq <= self._seq:
            self.problem(seq, "inserted: the number is there twice")
            return
        self._account_for(seq - 1)
        self.count += 1
        self.covered += seq <= self.sealed_through
        stubs = self._records.find(seq)
        if not is_record and stubs is not None and stubs.first <= seq:
            # The stub accounts for the number.
            self.problem(seq, "put back: a record says that it went")
            return
        if event.base_seq is not None and event.base_seq < 1:
            # A digest does not distinguish 0 from none.
            self.problem(seq, "altered: there is no event that its base could be")
        if is_record:
            self._records.standing.pop(seq, None)
        body = sha256(event.body).digest()
        is_original = is_record or as_of is None
        node = bounds.node(event.position)
        last = self._last.get(node)
        is_ahead = is_ahead if bounds.next_xids is None else bounds.is_ahead(event.position, xid)
        if wrong := bounds.wrong_xid(event.position, xid, is_ahead=is_ahead, before=last if is_original else None):
            self.problem(seq, wrong)
        if is_record or as_of is None:
            at, base, original = microseconds(event.recorded_at), event.base_seq, body
            if last is not None and event.position <= last[0]:
                self.problem(seq, "its position is not after that of the one before")
            self._last[node] = event.position, xid
            if seq in self._records.relocated:
                self.problem(seq, "put back: a record says that it was relocated")
        else:
            at, base, original = as_of, event.origin_base_seq, event.origin_body_digest or b""
            digest = relocation_digest(seq, microseconds(event.recorded_at), as_of, first_at, event.base_seq, body)
            listed = self._records.relocated.pop(seq, None)
            if listed is None:
                self.problem(seq, "inserted: no record says that it was relocated")
            elif listed != digest.hex():
                self.problem(seq, "altered since it was relocated")
        leaf = event_leaf(
            event.kind, (*event.stream, event.checkpoint_id), base, content_digest(event.state_digest, original)
        )
        if self._digest is not None and next_digest(self._digest, seq, at, leaf) != event.digest:
            self.problem(seq, "altered, or another one was there before it")
        self._advance(seq, at, event.digest)

    def _advance(self, seq: int, at: bytes, digest: bytes) -> None:
        """A number is accounted for by an event or a stub."""
        if self._at and int8(at) < int8(self._at):
            self.problem(seq, "reordered: it is older than the one before")
        if seq in self._earliest:
            earliest, seal = self._earliest[seq]
            if int8(at) < earliest:
                self.problem(seq, "backdated: it is older than a seal that does not have it", seal)
        for seal, sealed in self._sealed.pop(seq, ()):
            if digest != sealed:
                self.problem(seq, "altered: it was sealed with another digest", seal)
        if self._records.anchor == (seq, digest) or self._records.anchor[0] != seq:
            self._seq, self._digest, self._at = seq, digest, at
        else:
            self.problem(seq, "altered: a record says that its digest is another one")
            self._seq, self._digest, self._at = seq, self._records.anchor[1], at

    def _account_for(self, until: int) -> None:
        """Account for the numbers since the last event: erased, or dropped with a partition."""
        while self._seq < until:
            seq = self._seq + 1
            stubs = self._records.find(seq)
            if stubs is None or stubs.first > seq:
                self._skip(until if stubs is None else min(until, stubs.first - 1))
                continue
            for number in range(seq, min(until, stubs.last) + 1):
                at, leaf = stubs.stub(number)
                if self._digest is None:
                    self._seq, self._at = number, at
                else:
                    self._advance(number, at, next_digest(self._digest, number, at, leaf))

    def _skip(self, last: int) -> None:
        """Skip numbers without an event or stub."""
        first, (anchor, digest) = self._seq + 1, self._records.anchor
        self._seq, self._digest = last, None
        if first <= anchor:
            self._dropped = self._dropped or first
            if last >= anchor:
                self._seq, self._digest = anchor, digest
            return
        self._records.relocated = {
            seq: digest for seq, digest in self._records.relocated.items() if not first <= seq <= last
        }
        numbers = f"{first}" if first == last else f"{first} to {last}"
        self.problem(first, f"missing: no record says that {numbers} went")
        self._digest = self._records.lost.get(last)

    @property
    def needs_partitions(self) -> bool:
        """Whether an event or record is missing, perhaps because it went with its partition."""
        return bool(self._records.standing or self._dropped)

    def finish(self, partitions: Sequence[PartitionTimes] = ()) -> None:
        """After the last event.

        Args:
            partitions: all present and dropped ones, if `needs_partitions`.
        """
        self._account_for(self.tip.seq)
        for seq, at in sorted(self._records.standing.items()):
            if any(each.starts_at <= at < each.ends_at and not each.is_dropped for each in partitions):
                self.problem(seq, "missing: a record, which did not go with its partition")
        before = self._records.before
        if self._dropped and not any(
            each.is_dropped and before is not None and each.starts_at < before for each in partitions
        ):
            self.problem(self._dropped, "missing: a record says that it went with its partition, and none was dropped")
        for seq in sorted(self._records.relocated):
            self.problem(seq, "missing: it was relocated")
        if self._digest is not None and self._digest != self.tip.digest:
            self.problem(self.tip.seq, "the last event is missing, or another one")
        for seq, seals in sorted(self._sealed.items()):
            for seal, _ in seals:
                if seq > self.tip.seq:
                    self.problem(seq, "missing: it is sealed, and the stream's last number is smaller", seal)
                elif seq > self._records.anchor[0]:
                    self.problem(seq, "missing: it is sealed, and no record says that it went", seal)
        self.problems.sort(key=lambda each: each.seq)
