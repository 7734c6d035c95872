"""Bounds that digests do not prove: of transaction ids, by generations of the log; of times, by the seals."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements

__all__ = ["TOLERANCE", "Bounds", "ask_nodes", "int8", "read_bounds"]

#: How long before its commit an append may have taken its time. A seal may have been taken in between.
TOLERANCE = timedelta(hours=1)

#: A position has so many bits beside the Citus group id of the node that gave it.
GROUP_BITS = 48

#: A node that is gone: its transaction ids have no bound.
_NO_BOUND = 1 << 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds for all streams."""

    seals: list[int] = field(default_factory=list)
    """Their numbers, rising."""
    sealed_at: list[int] = field(default_factory=list)
    """The time of each seal, then the present time, in microseconds. If the clock had gone back, a seal has the time of
    the seal before it."""
    generations: list[int] = field(default_factory=list)
    """The positions after which each generation of the log begins."""
    last_xids: list[int] = field(default_factory=list)
    """The greatest transaction id of each generation except the newest."""
    is_restored: bool = False
    """Whether the newest generation has events of two clusters: then its transaction ids have no bound."""
    next_xids: dict[int, int] | None = None
    """On a distributed log: the next transaction id of each node, by Citus group id, as far as they were asked."""

    def node(self, position: int) -> int:
        """The Citus group id of the node that gave an event its position and transaction id; 0 on one server."""
        return 0 if self.next_xids is None else position >> GROUP_BITS

    def is_ahead(self, position: int, xid: int) -> bool:
        """On a distributed log, whether an event's node had not assigned a transaction id when it was last asked."""
        return self.next_xids is not None and xid >= self.next_xids.get(self.node(position), 0)

    def earliest(self, sealed: list[tuple[int, int]]) -> dict[int, tuple[int, int]]:
        """By number in a stream: the earliest possible time of the event, and the seal from which it follows.

        An older event would be in that seal. There is no bound if the clock went back after the seal, which the time of
        the next seal, or the present time, shows.

        Args:
            sealed: the seals that have the stream, and the last number that each covers.
        """
        found = {}
        covered = 0
        for seal, seq in [*sorted(sealed), (1 << 63, 0)]:
            # The last seal that still covers no more than the one before it.
            index = bisect_left(self.seals, seal) - 1
            if index >= 0 and self.sealed_at[index] < self.sealed_at[index + 1]:
                found[covered + 1] = self.sealed_at[index] - TOLERANCE // timedelta(microseconds=1), self.seals[index]
            covered = max(covered, seq)
        return found

    def generation(self, position: int) -> int:
        """The index of the generation that an event belongs to."""
        return bisect_left(self.generations, position) - 1

    def wrong_xid(self, position: int, xid: int, *, is_ahead: bool, before: tuple[int, int] | None) -> str | None:
        """The fault of an event's transaction id.

        Args:
            is_ahead: the server has not assigned it yet.
            before: position and transaction id of the event before on the same node, if they are to rise.
        """
        generation = self.generation(position)
        if generation == len(self.generations) - 1:
            if self.is_restored or not self.generations:
                return None
        else:
            is_ahead = xid > self.last_xids[max(generation, 0)]
        if is_ahead:
            return "its transaction id is one that the server had not given"
        if before is not None and generation == self.generation(before[0]) and xid < before[1]:
            return "its transaction id is smaller than that of the one before"
        return None


def read_bounds(statements: Statements) -> Op[Bounds]:
    """The bounds, as they are before any stream is looked at."""
    seals = yield Query(statements["verify_seal_times"])
    generations = yield Query(statements["verify_generations"])
    return Bounds(
        [number for number, *_ in seals],
        [int8(at) for _, at, _ in seals] + [int8(now) for _, _, now in seals[-1:]],
        [position for position, *_ in generations],
        [int(xid) for _, xid, *_ in generations[1:]],
        any(is_restored for *_, is_restored, _ in generations),
        {} if generations and generations[0][-1] else None,
    )


def ask_nodes(statements: Statements, bounds: Bounds, events: Sequence[tuple[int, int]]) -> Op[None]:
    """On a distributed log, ask the nodes for their next transaction ids, if events are beyond those that are known.

    Args:
        events: position and transaction id of each.
    """
    known = bounds.next_xids
    if known is not None and any(bounds.is_ahead(position, xid) for position, xid in events):
        known.update({bounds.node(position): _NO_BOUND for position, _ in events})
        known.update({group: int(xid) for group, xid in (yield Query(statements["verify_xids"]))})


def int8(sent: bytes) -> int:
    """A time in microseconds, as PostgreSQL sends it."""
    return int.from_bytes(sent, "big", signed=True)
