"""When to take a snapshot: when replaying would cost as much as reading it.

Replaying costs the bytes of the events plus a constant for each (a row to fetch, a body to open); reading the snapshot
costs its size. A snapshot is due when the first reaches the second. Between two snapshots the log then grows by about
a state's size, so all snapshots together are proportional to all events together, and no read costs more than about
twice the state.
"""

from __future__ import annotations

from eventlog.format.codec import is_encrypted
from eventlog.settings import Settings
from snapshots.state import CheckpointState

__all__ = ["EVENT_COST_BYTES", "plan_snapshot", "replay_cost"]

#: What handling one event costs, in bytes of a snapshot that are read in the same time.
EVENT_COST_BYTES = 1024

#: The same where it is encrypted: a cipher takes half a millisecond to begin.
ENCRYPTED_EVENT_COST_BYTES = 8 * 1024


def replay_cost(body: bytes) -> int:
    """What one more event adds to the cost of replaying, in bytes.

    Args:
        body: the event's, as stored.
    """
    return len(body) + (ENCRYPTED_EVENT_COST_BYTES if is_encrypted(body) else EVENT_COST_BYTES)


def plan_snapshot(frame: CheckpointState, base: CheckpointState | None, body: bytes, settings: Settings) -> bool:
    """Work out where replaying a new frame starts and what it costs; returns whether its event carries a snapshot.

    With a snapshot, and without a base, replay starts at the event itself: the caller enters its seq and time as the
    keyframe's when the database has given them.

    Args:
        frame: the new frame; its keyframe and cost are set.
        base: what its event is a difference from.
        body: the event's, as stored.
        settings: the floor, and the limit of a body: a state that might not fit into one gets no snapshot.
    """
    frame.keyframe_seq, frame.keyframe_at, frame.replay_cost = 0, None, 0
    if base is None:
        return False
    cost = base.replay_cost + replay_cost(body)
    fits = frame.weight < settings.max_body_bytes
    if fits and cost >= max(frame.state_bytes, settings.snapshot_floor_bytes):
        return True
    frame.keyframe_seq, frame.keyframe_at, frame.replay_cost = base.keyframe_seq, base.keyframe_at, cost
    return False
