"""Kinds of events."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Kind"]


class Kind(IntEnum):
    """Kinds of events, as stored."""

    CHECKPOINT_SAVED = 1
    WRITES_SAVED = 2
    THREAD_DELETED = 3
    PARTLY_ERASED = 4
    COPIED = 5
