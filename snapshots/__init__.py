"""Snapshots: full states, taken now and then, so that a read never replays far.

They are an optimisation: dropping the table changes nothing but speed.
"""
