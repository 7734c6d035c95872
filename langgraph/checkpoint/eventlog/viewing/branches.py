"""The branches of a stream: a line for each, from the checkpoint that it forks from to its last one.

A checkpoint's first child continues its line. Its other children begin new lines, and so do checkpoints without a
parent or with an erased parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.streams import Stream

__all__ = ["Branch", "Descent", "Node", "descent_of", "read_nodes"]

#: The number of latest checkpoints of a stream that are read.
MOST_NODES = 20_000


class Node(NamedTuple):
    """A checkpoint of a stream, in the order of the statement."""

    checkpoint_id: str
    parent_id: str | None
    first_at: datetime
    seq: int
    step: Any
    source: str | None


class Branch(NamedTuple):
    """One line."""

    number: int
    """0 for the first one."""
    tip: str
    """Its last checkpoint."""
    starts_at: str | None
    """The checkpoint that it forks from; None: it begins by itself."""


class Descent(NamedTuple):
    """How the checkpoints of a stream descend from each other."""

    nodes: dict[str, Node]
    branch_of: dict[str, int]
    branches: list[Branch]
    children: dict[str, list[str]]


def read_nodes(statements: Statements, stream: Stream, rows: int = MOST_NODES) -> Op[list[Node]]:
    """The latest checkpoints of a stream, the latest first."""
    params = {**stream._asdict(), "rows": rows}
    return [Node(*row) for row in (yield Query(statements["viewing_checkpoints"], params))]


def descent_of(nodes: Sequence[Node]) -> Descent:
    """The lines of these checkpoints, in the order of their first saving, not of their ids."""
    found = {node.checkpoint_id: node for node in sorted(nodes, key=lambda node: (node.first_at, node.seq))}
    children: dict[str, list[str]] = {}
    roots: list[str] = []
    for node in found.values():
        if node.parent_id in found and node.parent_id != node.checkpoint_id:
            children.setdefault(node.parent_id, []).append(node.checkpoint_id)
        else:
            roots.append(node.checkpoint_id)
    # In the order in which the lines began.
    begins: list[tuple[str, str | None]] = [(id_, None) for id_ in roots]
    begins += [(id_, parent) for parent, born in children.items() for id_ in born[1:]]
    begins.sort(key=lambda each: (found[each[0]].first_at, found[each[0]].seq))
    branch_of: dict[str, int] = {}
    branches = []
    for number, (start, forked_from) in enumerate(begins):
        tip = start
        while True:
            branch_of[tip] = number
            born = children.get(tip)
            # Ids that name each other as parents have no beginning, so they are on no line.
            if not born or born[0] in branch_of:
                break
            tip = born[0]
        branches.append(Branch(number, tip, forked_from))
    return Descent(found, branch_of, branches, children)
