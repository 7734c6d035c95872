"""Planning to cut a part out of a stream so that the rest reads as before. Pure: from an outline to a `Cut`.

The current events of surviving checkpoints stay, with their writes. Most stay in place. Three kinds are *relocated*:
appended again under their own number, so that references by number remain valid.

* An event that loses its base or its parent is written again, self-contained and without a parent: a new beginning.
* So is the event of a checkpoint that was put more than once: its earlier event goes.
* An event in a partition that is about to be dropped is relocated unchanged, if its base survives.

Numbers stay, so all events that build on a relocated event stay unchanged.
"""

from __future__ import annotations

from datetime import datetime

from eventlog.events import Kind, StoredEvent
from eventlog.records import CheckpointEntry, Cut, Outline

__all__ = ["plan_cut"]


def plan_cut(outline: Outline, kept: set[str], expired_before: datetime | None) -> Cut | None:
    """Decide which events go and which are relocated, so that the checkpoints `kept` survive; None: nothing to do.

    Args:
        expired_before: for retention: events recorded before this time are about to be dropped.
    """
    current = {outline.checkpoints[id_].seq: outline.checkpoints[id_] for id_ in kept}
    gone = outline.checkpoints.keys() - kept
    replaced = {
        event.checkpoint_id
        for event in outline.events
        if event.kind == Kind.CHECKPOINT_SAVED
        and event.checkpoint_id in kept
        and event.seq != outline.checkpoints[event.checkpoint_id].seq
    }

    def is_expired(event: StoredEvent) -> bool:
        return expired_before is not None and event.recorded_at < expired_before

    def stays(event: StoredEvent) -> bool:
        if event.kind == Kind.CHECKPOINT_SAVED:
            return event.seq in current
        if event.kind == Kind.WRITES_SAVED:
            # Writes to a checkpoint that does not exist (yet) may belong to a run in progress.
            return event.checkpoint_id not in gone and (event.checkpoint_id in kept or not is_expired(event))
        return not is_expired(event)

    cut = Cut(gone=sorted(gone))
    rewritten: set[int] = set()
    relocated: set[int] = set()
    for event in outline.events:
        if not stays(event):
            cut.events += 1
            cut.bytes += outline.body_bytes[event.seq]
            # Records of operations are never deleted, only dropped with their partition.
            if event.kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED) and not is_expired(event):
                cut.seqs.append(event.seq)
            continue
        if event.kind not in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED):
            continue
        cut.is_end = False
        again = event.base_seq is not None and event.base_seq not in current
        if event.kind == Kind.CHECKPOINT_SAVED:
            again = again or event.checkpoint_id in replaced or current[event.seq].parent_id in gone
        if event.kind == Kind.WRITES_SAVED:
            cut.written_through = max(cut.written_through or "", event.checkpoint_id)
        saved_at = event.as_of or event.recorded_at
        cut.active_at = max(cut.active_at or saved_at, saved_at)
        if again:
            cut.rewritten.append(event)
            rewritten.add(event.seq)
        elif is_expired(event):
            cut.moved.append(event.seq)
        else:
            continue
        relocated.add(event.seq)
        if not is_expired(event):
            cut.seqs.append(event.seq)

    if not cut.events and not relocated and not any(map(is_expired, outline.events)):
        return None
    snapshots = outline.snapshots.keys() & current.keys() - rewritten
    cut.gone_snapshots = sorted(outline.snapshots.keys() - snapshots)
    cut.bytes += sum(outline.snapshots[seq] for seq in cut.gone_snapshots)
    cut.changed = _changed_rows(outline, current, relocated, rewritten, snapshots, gone)
    return cut


def _changed_rows(
    outline: Outline,
    current: dict[int, CheckpointEntry],
    relocated: set[int],
    rewritten: set[int],
    snapshots: set[int],
    gone: set[str],
) -> list[tuple[str, datetime, int, datetime, bool]]:
    """Rows of surviving checkpoints that change, with their new times and keyframes."""
    keyframes: dict[int, tuple[int, datetime]] = {}
    changed = []
    for event in outline.events:
        if (row := current.get(event.seq)) is None:
            continue
        recorded_at = outline.tip.now if event.seq in relocated else event.recorded_at
        if event.base_seq is None or event.seq in rewritten or event.seq in snapshots:
            keyframe = (event.seq, recorded_at)
        else:
            keyframe = keyframes[event.base_seq]
        keyframes[event.seq] = keyframe
        orphaned = row.parent_id in gone
        if (recorded_at, *keyframe) != (row.recorded_at, row.keyframe_seq, row.keyframe_at) or orphaned:
            changed.append((row.checkpoint_id, recorded_at, *keyframe, orphaned))
    return changed
