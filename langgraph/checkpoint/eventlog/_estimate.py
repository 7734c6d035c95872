"""How large a value seems, without serializing it: enough to decide which thread should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["estimate_size"]

#: Looking at more values than this takes longer than moving to another thread does.
NODES = 200


def estimate_size(value: Any, limit: int) -> int:
    """A lower bound of a value's serialized size, in bytes.

    Stops at `limit`, and counts what it did not get to look at as more than that.
    """
    total = 0
    pending: list[Any] = [value]
    for _ in range(NODES):
        if not pending:
            return total
        each = pending.pop()
        if isinstance(each, (str, bytes, bytearray, memoryview)):
            total += len(each)
            if total > limit:
                return total
        elif isinstance(each, Mapping):
            pending.extend(each.values())
        elif isinstance(each, (list, tuple, set, frozenset)):
            pending.extend(each)
        elif hasattr(each, "__dict__"):
            pending.append(vars(each))
        elif isinstance(each, Iterable) or hasattr(each, "__len__"):
            return limit + 1  # an array, a deque, …: how much is in it only its serializer knows
    return limit + 1
