"""Validation of arguments in a URL or a tool call, with errors that name the right form."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

from eventlog.errors import InvalidInputError

__all__ = ["decode_cursor", "encode_cursor", "metadata_filter", "moment", "one_of_or_none"]

#: A zone with a space in place of its plus.
_ZONE = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:\d\d)$")


def encode_cursor(*parts: Any) -> str:
    """A place in a list, as one word: times in ISO 8601."""
    text = json.dumps([part.isoformat() if isinstance(part, datetime) else part for part in parts])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[Any]:
    """The parts of a cursor. Raises InvalidInputError for an invalid one."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError) as exc:
        raise InvalidInputError(f"cursor: {cursor[:100]!r} is not a cursor of such a page") from exc
    if not isinstance(parts, list) or len(parts) != length:
        raise InvalidInputError(f"cursor: {cursor[:100]!r} is not a cursor of such a page")
    return parts


def metadata_filter(texts: Iterable[str]) -> dict[str, Any]:
    """The filter of ``key=value`` texts: a value is JSON (``3``, ``true``, ``"3"``), or else a text as it is.

    Raises InvalidInputError for a text without a key, and for a key that is given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidInputError(f"filter: {text[:100]!r} is not key=value: write KEY=VALUE, such as user_id=ada")
        if key in found:
            raise InvalidInputError(
                f"filter: {key[:100]!r} is given twice, and a checkpoint's metadata has one value for it"
            )
        try:
            found[key] = json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            found[key] = value
    return found


def _no_constant(text: str) -> NoReturn:
    """NaN and the infinities, which Python takes for JSON, are texts."""
    raise ValueError(text)


def moment(text: str) -> datetime:
    """A time of ISO 8601; without a zone it is in UTC. Raises InvalidInputError.

    A time with exactly three decimals means the end of that millisecond: documents show times like this, and a
    checkpoint saved within the millisecond had been saved by then.
    """
    try:
        # In a URL that was not encoded, the plus is a space.
        found = datetime.fromisoformat(_ZONE.sub(r"\1+\2", text.strip()).replace("Z", "+00:00"))
    except ValueError as exc:
        raise InvalidInputError(
            f"time: {text[:100]!r} is not a time: write it as 2026-11-22T10:30:00.123Z or 2026-11-22T10:30:00+01:00"
        ) from exc
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    if found.microsecond and found.microsecond % 1000 == 0:
        found += timedelta(microseconds=999)
    try:
        return found.astimezone(timezone.utc)
    except OverflowError as exc:
        raise InvalidInputError(
            f"time: {text[:100]!r} is out of range: in UTC it is in no year from 1 to 9999"
        ) from exc


def one_of_or_none(value: str | None, what: str, choices: Iterable[str]) -> str | None:
    """One of some words, or None for none or an empty one. Raises InvalidInputError."""
    if not value:
        return None
    words = tuple(choices)
    if value not in words:
        raise InvalidInputError(f"{what}: {value[:100]!r} is not one of {', '.join(words)}")
    return value
