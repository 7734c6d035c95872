"""The arguments of what ends or copies data, validated before anything is read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from eventlog.errors import InvalidInputError
from eventlog.streams import storable, text_id

__all__ = ["actor_of", "count_of", "duration_of", "ids_of", "limit_of", "seconds_of", "two_threads"]


def ids_of(value: Any, what: str) -> list[str]:
    """Ids from a sequence of them, each once.

    Raises:
        InvalidInputError: for a single text, whose characters would be taken for ids, and for what is not an id.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidInputError(f"{what} must be a sequence of ids, not {type(value).__name__}")
    return list(dict.fromkeys(text_id(each, f"each of {what}") for each in value))


def duration_of(value: Any, what: str) -> timedelta:
    """A duration that is not negative. Raises InvalidInputError."""
    if not isinstance(value, timedelta):
        raise InvalidInputError(f"{what} must be a timedelta, not {type(value).__name__}")
    if value < timedelta(0):
        raise InvalidInputError(f"{what} must not be negative (got {value})")
    # PostgreSQL's times do not go further back.
    if value > timedelta(days=365 * 2000):
        raise InvalidInputError(f"{what} must be less than 2,000 years (got {value})")
    return value


def count_of(value: Any, what: str) -> int:
    """A count of at least one. Raises InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{what} must be an int, not {type(value).__name__}")
    if value < 1:
        raise InvalidInputError(f"{what} must be at least 1 (got {value})")
    if value >= 1 << 31:
        raise InvalidInputError(f"{what} must be less than 2,147,483,648 (got {value})")
    return value


def seconds_of(value: Any, what: str) -> float:
    """A number of seconds, more than none and at most a day. Raises InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{what} must be a number of seconds, not {type(value).__name__}")
    if not 0 < value <= 86_400:
        raise InvalidInputError(f"{what} must be more than 0 seconds and at most a day (got {value})")
    return float(value)


def limit_of(value: Any) -> int | None:
    """How many to yield at most; None: all. Raises InvalidInputError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"limit must be an int or None, not {type(value).__name__}")
    if value < 0:
        raise InvalidInputError(f"limit must not be negative (got {value})")
    return value


def actor_of(value: Any) -> str | None:
    """On whose behalf something is done, for the log. Raises InvalidInputError."""
    return None if value is None else storable(value, "actor")


def two_threads(source_id: Any, target_id: Any) -> tuple[str, str]:
    """The ids of a source and another target. Raises InvalidInputError."""
    source, target = text_id(source_id, "source_thread_id"), text_id(target_id, "target_thread_id")
    if source == target:
        raise InvalidInputError(f"thread {source!r} cannot be copied onto itself: choose another target id")
    return source, target
