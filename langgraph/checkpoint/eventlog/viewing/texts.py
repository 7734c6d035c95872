"""Times, sizes and records of operations as texts."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

__all__ = ["iso", "operation_text", "plural", "size"]

_UNITS = ("kB", "MB", "GB", "TB", "PB")

#: Fields of an operation's record that only machines read.
NOT_FOR_PEOPLE = ("request", "source_seq", "source_digest")


def iso(time: datetime | None) -> str | None:
    """A time of ISO 8601 in UTC, with milliseconds: ``2026-11-22T10:30:00.123Z``."""
    if time is None:
        return None
    return time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def size(count: int) -> str:
    """Bytes in the largest unit that has one: ``465 bytes``, ``1.9 kB``."""
    if count < 1000:
        return plural(count, "byte")
    value = float(count)
    for unit in _UNITS:
        value /= 1000
        # A number that rounds to 1,000 becomes one of the next unit.
        if value < 999.95 or unit == _UNITS[-1]:
            break
    return f"{value:,.1f} {unit}"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def operation_text(kind: str, operation: dict[str, Any] | None) -> str:
    """An operation on a namespace as a sentence.

    Args:
        kind: of the entry: `deleted`, `erased`, `copied`, `imported`.
        operation: what its record says.
    """
    rest = {key: each for key, each in (operation or {}).items() if key not in NOT_FOR_PEOPLE}
    name, by, actor = rest.pop("operation", kind), rest.pop("by", "an unknown user"), rest.pop("actor", None)
    counts = [
        size(rest.pop(key)) if key == "bytes" else plural(rest.pop(key), key.removesuffix("s"))
        for key in ("checkpoints", "events", "bytes")
        if isinstance(rest.get(key), int)
    ]
    source = rest.pop("source", None)
    verb = f"copied from {source}:" if kind == "copied" else "erased"
    if kind == "imported" and isinstance(origin := rest.pop("from", None), dict):
        place = "/".join(str(origin[key]) for key in ("host", "database", "schema") if origin.get(key) is not None)
        verb = f"from {origin.get('saver', 'a checkpointer')}{f' at {place}' if place else ''}:"
        rest.pop("outline", None)
    who = by if actor is None else f"{by} for {actor}"
    details = [f"; {key}: {each}" for key, each in rest.items() if each is not None]
    return f"{name} by {who}: {verb} {', '.join(counts)}{''.join(details)}"
