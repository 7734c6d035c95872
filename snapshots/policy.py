"""When to take a snapshot: when replaying would cost as much as reading it.

Replaying costs the bytes of the events plus a constant for each (a row to fetch, a body to open); reading the snapshot
costs its size. A snapshot is due when the first reaches the second. Between two snapshots the log then grows by about
a state's size, so all snapshots together are proportional to all events together, and no read costs more than about
twice the state.
"""

from __future__ import annotations

__all__ = ["EVENT_COST_BYTES", "is_due", "replay_cost"]

#: What handling one event costs, in bytes of a snapshot that are read in the same time.
EVENT_COST_BYTES = 1024


def replay_cost(body_bytes: int) -> int:
    """What one more event adds to the cost of replaying, in bytes.

    Args:
        body_bytes: size of the event's body as stored.
    """
    return body_bytes + EVENT_COST_BYTES


def is_due(state_bytes: int, cost: int, floor: int) -> bool:
    """Whether an event should carry a snapshot.

    Args:
        state_bytes: size of the state's values at the event.
        cost: of replaying to the event, itself included, in bytes.
        floor: no snapshot below this cost, in bytes.
    """
    return cost >= max(state_bytes, floor)
