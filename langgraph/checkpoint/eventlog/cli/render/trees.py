"""A thread's checkpoints as trees: a line for each branch, and what forks off under the checkpoint that it forks from.

A line of thousands of checkpoints, each the child of the one before, would be nested as deep. So a line is flat: a
checkpoint's first child follows it, and only its other children begin branches of their own, beneath it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text
from rich.tree import Tree

from langgraph.checkpoint.eventlog import HistoryEntry
from langgraph.checkpoint.eventlog.cli.render.output import plural, printable, when
from langgraph.checkpoint.eventlog.cli.render.values import one_line

__all__ = ["checkpoint_trees"]


def checkpoint_trees(
    entries: Sequence[HistoryEntry], short: Mapping[str, str], latest: Mapping[str, str | None]
) -> Iterator[Tree]:
    """A tree for each namespace, with ids in their `short` form; the `latest` checkpoints are by namespace."""
    by_ns: dict[str, dict[str, HistoryEntry]] = {}
    for each in sorted(entries, key=lambda each: each.seq):
        if each.checkpoint_id is not None:
            # The last one counts of a checkpoint that was put again.
            by_ns.setdefault(each.checkpoint_ns, {})[each.checkpoint_id] = each
    for ns, found in sorted(by_ns.items()):
        name = f"{printable(ns) or 'root graph'}, {plural(len(found), 'checkpoint')}"
        tree = Tree(Text(name, "bold"), guide_style="dim")
        _grow(tree, found, short, latest.get(ns))
        yield tree


def _grow(tree: Tree, found: Mapping[str, HistoryEntry], short: Mapping[str, str], latest: str | None) -> None:
    children: dict[str | None, list[HistoryEntry]] = {}
    for entry in found.values():
        # A checkpoint without its parent, which was erased, begins a line.
        has_parent = entry.parent_id in found and entry.parent_id != entry.checkpoint_id
        children.setdefault(entry.parent_id if has_parent else None, []).append(entry)
    # Not by recursion: branches may branch off each other without end.
    waiting = [(tree, each) for each in reversed(children.get(None, []))]
    while waiting:
        branch, each = waiting.pop()
        node = branch.add(_label(each, short, is_latest=each.checkpoint_id == latest))
        born = children.get(each.checkpoint_id, [])
        # The first child goes on with the line, and comes next; the others begin branches.
        waiting += [(node, other) for other in reversed(born[1:])]
        waiting += [(branch, first) for first in born[:1]]


def _label(entry: HistoryEntry, short: Mapping[str, str], *, is_latest: bool) -> Text:
    id_ = entry.checkpoint_id or ""
    step = "" if entry.step is None else f"  step {entry.step}"
    return Text.assemble(
        (printable(short.get(id_, id_)), "cyan"),
        f"{step}  {one_line(entry.source or '')}".rstrip(),
        (f"  {when(entry.time)}", "dim"),
        ("  concurrent", "bold yellow") if entry.concurrent_with else "",
        ("  latest", "bold green") if is_latest else "",
    )
