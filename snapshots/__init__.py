"""States of checkpoints: their cache, their encoding against a base, folding events to a state, and snapshots.

Snapshots are full states, taken now and then, so that a read never replays far. They are an optimisation: dropping the
table changes nothing but speed.
"""
