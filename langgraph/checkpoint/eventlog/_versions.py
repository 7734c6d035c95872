"""Channel versions, in the incumbent's format: comparable as text, and told apart when two runs race.

Graphs and threads that used `PostgresSaver` find the versions that they expect.
"""

from __future__ import annotations

import random

__all__ = ["next_version"]


def next_version(current: str | int | float | None) -> str:
    """The version after `current`: a counter of 32 digits, then a random part."""
    if current is None:
        counter = 0
    elif isinstance(current, str):
        counter = int(current.split(".")[0])
    else:
        counter = int(current)
    return f"{counter + 1:032}.{random.random():016}"
