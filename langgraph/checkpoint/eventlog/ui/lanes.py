"""The lines of a thread's branches beside its timeline: one lane for each branch that is open at a row.

A branch's line reaches from the checkpoint where it forks, if that is on the page, to its last checkpoint there. If a
branch began or continues outside of the page, its line reaches the edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Lane", "lanes"]

#: The largest number of lanes; further branches share the last lane.
MOST_LANES = 6


@dataclass
class Lane:
    """One lane at one row. `above` and `below` say whether the line goes on that way from the row's dot."""

    above: bool = False
    below: bool = False
    dot: bool = False
    out: bool = False
    """Whether lines of branches that begin at this row leave its dot to the right."""
    across: bool = False
    """Whether a line crosses it from the left, on its way to the branch that begins at this row."""
    turn: bool = False
    """Whether the line of a branch that begins at this row comes from the left into this lane."""
    branch: int | None = None

    def classes(self) -> str:
        """The lane as classes of CSS."""
        names = [name for name in ("above", "below", "dot", "out", "across", "turn") if getattr(self, name)]
        return " ".join(["lane", *names, *([f"c{self.branch % 6}"] if self.branch is not None else [])])


@dataclass
class _Span:
    number: int
    rows: list[int] = field(default_factory=list)
    fork: int | None = None
    first: int = 0
    last: int = 0
    slot: int = 0


def lanes(document: Mapping[str, Any], *, newest: bool) -> list[list[Lane]]:
    """The lanes of each row of a thread's document, from left to right; every row has as many.

    Args:
        document: has `steps`, `branches`, and `next`, which is not None when there is another page.
        newest: whether the rows are in the order newest first.
    """
    steps: Sequence[Mapping[str, Any]] = document["steps"]
    spans = _spans(document, steps, newest=newest)
    number_of_lanes = _allot(spans)
    rows = [[Lane() for _ in range(number_of_lanes)] for _ in steps]
    for span in spans:
        for row in range(span.first, span.last + 1):
            lane = rows[row][span.slot]
            if row == span.fork:
                _connect(rows[row], span, parent_slot=_slot_of(spans, steps[row]), towards=span.rows[0] - row)
                continue
            lane.branch = span.number
            lane.above |= row > span.first or _reaches(span, document, steps, edge="first", newest=newest)
            lane.below |= row < span.last or _reaches(span, document, steps, edge="last", newest=newest)
            lane.dot |= row in span.rows
    return rows


def _spans(document: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], *, newest: bool) -> list[_Span]:
    spans: dict[int, _Span] = {}
    by_id: dict[str, int] = {}
    for row, step in enumerate(steps):
        if step["kind"] == "step":
            spans.setdefault(step["branch"], _Span(step["branch"])).rows.append(row)
            by_id.setdefault(step["checkpoint_id"], row)
    for branch in document["branches"]:
        span = spans.get(branch["number"])
        if span is not None and branch.get("starts_at") in by_id:
            # The checkpoint that a branch starts at may be its own first one: then there is nothing to connect.
            row = by_id[branch["starts_at"]]
            span.fork = row if row not in span.rows else None
    for span in spans.values():
        ends = [*span.rows, *([span.fork] if span.fork is not None else [])]
        span.first, span.last = min(ends), max(ends)
        if _reaches(span, document, steps, edge="first", newest=newest):
            span.first = 0
        if _reaches(span, document, steps, edge="last", newest=newest):
            span.last = len(steps) - 1
    return sorted(spans.values(), key=lambda span: span.number)


def _reaches(
    span: _Span, document: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], *, edge: str, newest: bool
) -> bool:
    """Whether a branch continues beyond the first or the last row."""
    towards_newer = (edge == "first") == newest
    newer_row = span.rows[0] if newest else span.rows[-1]
    older_row = span.rows[-1] if newest else span.rows[0]
    if towards_newer:
        return not steps[newer_row].get("is_tip")
    return span.fork is None and steps[older_row].get("parent_id") is not None


def _allot(spans: Sequence[_Span]) -> int:
    """Give each branch the first lane that is free for all of its rows; returns how many lanes there are."""
    taken: list[list[tuple[int, int]]] = []
    for span in spans:
        free = (
            slot
            for slot, others in enumerate(taken)
            if all(span.last < first or last < span.first for first, last in others)
        )
        span.slot = min(next(free, len(taken)), MOST_LANES - 1)
        if span.slot == len(taken):
            taken.append([])
        taken[span.slot].append((span.first, span.last))
    return len(taken)


def _slot_of(spans: Sequence[_Span], step: Mapping[str, Any]) -> int:
    return next((span.slot for span in spans if span.number == step.get("branch")), 0)


def _connect(row: list[Lane], span: _Span, *, parent_slot: int, towards: int) -> None:
    """Draw the beginning of a branch: from the dot of its parent across to its own lane, and from there on."""
    low, high = sorted((parent_slot, span.slot))
    row[low].out = True
    for slot in range(low + 1, high):
        row[slot].across = True
        row[slot].branch = span.number if row[slot].branch is None else row[slot].branch
    lane = row[span.slot]
    lane.turn = True
    lane.branch = span.number
    lane.below |= towards > 0
    lane.above |= towards < 0
