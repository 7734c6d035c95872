"""The stubs of erased events in a stream's records."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from eventlog.errors import LogCorruptedError
from eventlog.format.digest import STUB_BYTES, microseconds
from eventlog.records import decode_operation_record

__all__ = ["Records", "StubRange", "stub_ranges"]


class StubRange(NamedTuple):
    """The stubs of successive events, in one record."""

    first: int
    last: int
    data: bytes
    start: int
    """Where in `data` they begin."""

    def stub(self, seq: int) -> tuple[bytes, bytes]:
        """Time, as PostgreSQL sends it, and leaf of an event."""
        start = self.start + (seq - self.first) * STUB_BYTES
        return self.data[start : start + 8], self.data[start + 8 : start + STUB_BYTES]


def stub_ranges(says: Mapping[str, Any], stubs: bytes) -> list[StubRange]:
    """The stubs of one record. Raises ValueError, TypeError or OverflowError for a damaged one."""
    found, start = list[StubRange](), 0
    for first, last in says.get("erased", []):
        found.append(StubRange(int(first), int(last), stubs, start))
        start += STUB_BYTES * (found[-1].last - found[-1].first + 1)
    # Ranges of a damaged record may be endless.
    if len(stubs) != start or any(each.first > each.last for each in found):
        raise ValueError("not a stub for each number")
    return found


@dataclass(slots=True)
class Records:
    """The combined content of all records of a stream: `read` each, the oldest first."""

    ranges: list[StubRange] = field(default_factory=list)
    """Without overlaps, in the order of their numbers; of equal ranges, that of the last record."""
    relocated: dict[int, str] = field(default_factory=dict)
    """Relocated events that must exist: number to digest of the relocated row."""
    standing: dict[int, datetime] = field(default_factory=dict)
    """Records that existed when the stream ended: number to time."""
    anchor: tuple[int, bytes] = (0, b"")
    """The number from which the chain is computed, and its digest: earlier events went with their partitions."""
    lost: dict[int, bytes] = field(default_factory=dict)
    """The last numbers of ranges that a rebuild found missing, and the digests from which the chain continues."""
    before: datetime | None = None
    """All events recorded before this time are void."""

    def read(self, seq: int, body: bytes, as_of: bytes | None) -> str | None:
        """Take in a record; returns its fault, or None.

        Args:
            as_of: as PostgreSQL sends it.
        """
        try:
            says, stubs = decode_operation_record(body, "")
            ranges = stub_ranges(says, stubs)
            relocated = {int(number): str(digest) for number, digest in says.get("relocated", [])}
            standing = {int(number): _time(at) for number, at in says.get("records", [])}
            number, digest = says.get("anchor", (0, ""))
            anchor = int(number), bytes.fromhex(digest)
            lost = {int(end): bytes.fromhex(digest) for _, end, digest in says.get("lost", [])}
            before = None if (text := says.get("before")) is None else _time(text)
            if [each for each in ranges if not 0 < each.first <= each.last < seq] or not 0 <= anchor[0] < seq:
                raise ValueError("numbers that the stream did not have then")
        except (LogCorruptedError, ValueError, TypeError, AttributeError, OverflowError):
            return "a record that cannot be read"
        if "records" in says:
            self.relocated.clear()  # the end of the stream
        elif ranges:
            ends = [each.last for each in ranges]
            for number in list(self.relocated):
                place = bisect_left(ends, number)
                if place < len(ends) and ranges[place].first <= number:
                    del self.relocated[number]
        for each in ranges:
            self._add(each)
        self.relocated.update(relocated)
        self.standing.update(standing)
        self.lost.update(lost)
        if anchor[0] >= self.anchor[0]:
            self.anchor = anchor
        self.before = before or self.before
        return None if (before and microseconds(before)) == as_of else "a record with another time than it says"

    def _add(self, new: StubRange) -> None:
        """Add a range. It replaces the same numbers of earlier records."""
        place = bisect_right(self.ranges, new.first, key=_last)
        while place < len(self.ranges) and self.ranges[place].first <= new.last:
            old = self.ranges.pop(place)
            if old.first < new.first:
                self.ranges.insert(place, old._replace(last=new.first - 1))
                place += 1
            if old.last > new.last:
                start = old.start + (new.last + 1 - old.first) * STUB_BYTES
                self.ranges.insert(place, old._replace(first=new.last + 1, start=start))
        insort(self.ranges, new)

    def find(self, seq: int) -> StubRange | None:
        """The range that contains a number, or the first range after it."""
        place = bisect_right(self.ranges, seq - 1, key=_last)
        return self.ranges[place] if place < len(self.ranges) else None


def _last(range_: StubRange) -> int:
    return range_.last


def _time(text: Any) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at
