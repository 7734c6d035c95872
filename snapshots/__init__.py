"""States of checkpoints: their cache, their encoding against a base, folding events to a state, and snapshots.

Snapshots are full states, taken from time to time, so that a read replays few events. They only affect speed: the table
can be emptied.
"""
