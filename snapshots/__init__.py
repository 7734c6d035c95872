"""Snapshots: full states, taken now and then, so that a read never replays far.

They are an optimisation: dropping the table changes nothing but speed.
"""

from snapshots.plan import plan_snapshot, replay_cost
from snapshots.store import encode, load

__all__ = ["encode", "load", "plan_snapshot", "replay_cost"]
