"""Which checkpoints of a thread survive an erasure. Pure: from a thread's outline to ids by namespace.

All pruning rules share this one: each call of a subgraph has its own namespace, with a name that ends in the id of the
calling task. When the root graph's checkpoint of the call goes, nothing can resume the call, so its namespace goes too.
(A subgraph that keeps its state between calls has a namespace without a task id.) If a call's root checkpoint never
existed, the call belongs to a run that has not saved it yet, and stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from eventlog.events import Kind, StoredEvent
from eventlog.format.codec import Codec
from eventlog.records import CheckpointEntry, Outline, ThreadOutline

__all__ = ["Kept", "heads", "keep", "unresolved", "without_runs", "writes_to"]

#: Ids of the checkpoints that survive, by namespace.
Kept = dict[str, set[str]]


def keep(thread: ThreadOutline, *, last: int = 0, since: datetime | None = None, open_ids: Kept | None = None) -> Kept:
    """Of each namespace the newest `last` checkpoints, those first saved `since` a time, and those in `open_ids`."""
    kept: Kept = {}
    for ns, outline in thread.items():
        kept[ns] = set(sorted(outline.checkpoints, reverse=True)[:last])
        if since is not None:
            kept[ns] |= {id_ for id_, each in outline.checkpoints.items() if each.first_at >= since}
        if open_ids is not None:
            kept[ns] |= open_ids[ns]
    return _without_ended_calls(thread, kept)


def without_runs(thread: ThreadOutline, run_ids: Collection[str]) -> Kept:
    """All checkpoints except those that certain runs saved."""
    return {
        ns: {id_ for id_, each in outline.checkpoints.items() if each.run_id not in run_ids}
        for ns, outline in thread.items()
    }


def heads(outline: Outline) -> set[str]:
    """The ends of a stream's branches: checkpoints without children."""
    parents = {each.parent_id for each in outline.checkpoints.values()}
    return outline.checkpoints.keys() - parents


def unresolved(outline: Outline, *, of_heads: bool = False) -> list[StoredEvent]:
    """Writes to a checkpoint that came after its last child: a run may have gone back to it and wait for an answer.

    Args:
        of_heads: also those to checkpoints without children.
    """
    last_child: dict[str, int] = {}
    for each in outline.checkpoints.values():
        if each.parent_id is not None:
            last_child[each.parent_id] = max(last_child.get(each.parent_id, 0), each.seq)
    return [
        event
        for event in outline.events
        if event.kind == Kind.WRITES_SAVED
        and event.seq > last_child.get(event.checkpoint_id, 0 if of_heads else event.seq)
    ]


def writes_to(channel: str, codec: Codec, stored: StoredEvent, context: str) -> bool:
    """Whether an event of writes has one to a channel. Raises LogCorruptedError."""
    return any(write.channel == channel for write in codec.decode_writes(stored.body, context).writes)


def _without_ended_calls(thread: ThreadOutline, kept: Kept) -> Kept:
    roots: Mapping[str, CheckpointEntry] = thread[""].checkpoints if "" in thread else {}
    for ns in kept:
        if ":" in ns:
            kept[ns] = {
                id_
                for id_ in kept[ns]
                if (root := thread[ns].checkpoints[id_].root_id) is None or root not in roots or root in kept[""]
            }
    return kept
