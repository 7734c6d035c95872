"""Arguments as text: durations, times, files of text. A wrong one is refused with an example of a right one."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import typer
from pydantic import AwareDatetime, TypeAdapter

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog.viewing.arguments import metadata_filter

__all__ = ["criteria", "duration", "file_text", "not_texts", "time"]

# Upper case is left to ISO 8601, where M stands for months or for minutes.
_SHORT = re.compile("([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?")

_DURATION = TypeAdapter(timedelta)
_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def duration(text: str) -> timedelta:
    """A duration such as ``30d``, ``1d12h``, ``90m``, ``2w``, or one of ISO 8601, ``P30D``; raises BadParameter."""
    iso = text
    if text and (match := _SHORT.fullmatch(text)):
        weeks, days, *times = (each or "" for each in match.groups())
        iso = f"P{weeks}{days}T{''.join(times)}".removesuffix("T").upper()
    with suppress(ValueError):
        if iso.startswith("P") and (found := _DURATION.validate_python(iso)) >= timedelta(0):
            return found
    raise typer.BadParameter(
        f"{text!r} is not a duration: write 30d, 12h, 90m, 2w or 1d12h (weeks, days, hours, minutes, seconds, in "
        "this order), or as ISO 8601 has it, P30D"
    )


def time(text: str) -> datetime:
    """A time with its zone, as ISO 8601 has it; raises BadParameter."""
    # Digits alone would count as seconds since 1970: a year would be a time soon after midnight.
    if "-" in text.strip("-"):
        with suppress(ValueError):
            return _TIME.validate_python(text)
    raise typer.BadParameter(
        f"{text!r} is not a time with its zone: write it as 2026-11-22T10:30:00Z or 2026-11-22T10:30:00+01:00"
    )


def criteria(texts: Sequence[str] | None) -> dict[str, Any] | None:
    """The metadata to look for, from texts such as ``user_id=ada`` (`metadata_filter`); None without any.

    Raises BadParameter.
    """
    try:
        return metadata_filter(texts or ()) or None
    except InvalidInputError as exc:
        raise typer.BadParameter(str(exc).removeprefix("filter: "), param_hint="--filter") from exc


def not_texts(found: Mapping[str, Any]) -> str | None:
    """A hint for a filter without a match: the values that were taken for JSON, and how to write them as texts."""
    values = {key: json.dumps(each) for key, each in found.items() if not isinstance(each, str)}
    if not values:
        return None
    key, value = next(iter(values.items()))
    quoted = shlex.quote(f"{key}={json.dumps(value)}")
    return f"{', '.join(values.values())} counts as JSON, not as text: to look for the text, write --filter {quoted}"


def file_text(path: Path) -> str:
    """The text of a file; raises InvalidInputError, naming it."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
