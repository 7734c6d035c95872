"""Arguments as text: durations, times, connection strings. A wrong one is refused with an example of a right one."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict
from pydantic import AwareDatetime, TypeAdapter

from eventlog.errors import InvalidInputError

__all__ = ["checked_dsn", "duration", "time"]

# Upper case is left to ISO 8601, where M stands for months or for minutes.
_SHORT = re.compile("([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?")

_DURATION = TypeAdapter(timedelta)
_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)

_PORTS = re.compile("[0-9,]*")


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


def checked_dsn(text: str) -> str:
    """A connection string that libpq reads as its writer meant it; raises InvalidInputError.

    libpq's messages quote unreadable parts, and a host or a port that it cannot use. A password with ``@`` or ``/``
    that was not percent-encoded ends up in those, so such strings are refused here, without being shown.
    """
    try:
        # Values are not converted: a port may be several.
        parts = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except psycopg.ProgrammingError:
        # `from None`: libpq's message is the string itself.
        raise InvalidInputError(
            "--dsn (or EVENTLOG_DSN) is not a PostgreSQL connection string (not shown, as it may hold a password): "
            "write postgresql://user@host:5432/database or 'host=... dbname=...'"
        ) from None
    hosts = [host for host in parts.get("host", "").split(",") if not host.startswith(("/", "@"))]
    is_misread = (
        not _PORTS.fullmatch(parts.get("port", ""))
        or any("@" in host for host in hosts)
        or ("@" in parts.get("dbname", "") and "://" in text and "%40" not in text)
    )
    if is_misread:
        raise InvalidInputError(
            "--dsn (or EVENTLOG_DSN): libpq reads another host, port or database from the connection string than you "
            "mean: in a URI, percent-encode the password's special characters (%40 for @, %2F for /)"
        )
    return text
