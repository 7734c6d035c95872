"""The partitions of the log: making them in time, their ranges and sizes, dropping them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg import errors as pg

from eventlog.db.errors import is_to_grant
from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import MissingGrantError
from eventlog.logger import logger
from eventlog.settings import Settings

__all__ = [
    "Partition",
    "Partitions",
    "check_owner",
    "drop_partition",
    "ensure_partitions",
    "ensure_partitions_of",
    "read_partitions",
    "time_before",
]


class Partition(NamedTuple):
    """One partition of the log."""

    name: str
    starts_at: datetime
    ends_at: datetime
    rows: int
    """The server's estimate, from its statistics; exact when asked for."""
    bytes: int
    """On disk, with indexes and free space."""


class Partitions(NamedTuple):
    """The partitions of the log, oldest first."""

    partitions: list[Partition]
    runway: timedelta
    """How long the partitions that are there last, from now on. Appends that find none make it, if they may."""
    is_short: bool
    """Whether there is none beyond the current one."""


def ensure_partitions(statements: Statements, settings: Settings, ahead: int | None = None) -> Op[list[str]]:
    """Make the current partition and those ahead, where they are missing; returns their names.

    Args:
        ahead: how many beyond the current one; those of the settings by default.

    Raises:
        MissingGrantError: when the user may not make them.
    """
    params = (settings.partitions_ahead if ahead is None else ahead, settings.partition_interval)
    return (yield from _ensure(Query(statements["ensure_partitions"], params)))


def ensure_partitions_of(statements: Statements, settings: Settings, thread_id: str) -> Op[list[str]]:
    """Make the partitions that a thread's streams have come to, where they are missing. As `ensure_partitions`."""
    return (yield from _ensure(Query(statements["ensure_partitions_of"], (thread_id, settings.partition_interval))))


def _ensure(query: Query) -> Op[list[str]]:
    try:
        rows = yield query
    except pg.InsufficientPrivilege as exc:
        if is_to_grant(exc):
            raise
        raise MissingGrantError(
            "the log has no partition for the present, or too few ahead, and only the log's owner may make one: "
            "run setup() as the owner, which makes partitions ahead"
        ) from exc
    return [name for (name,) in rows]


def time_before(statements: Statements, age: timedelta) -> Op[datetime]:
    """The database's time, less a duration."""
    ((at,),) = yield Query(statements["time_before"], (age,))
    assert isinstance(at, datetime)
    return at


def read_partitions(statements: Statements, *, exact: bool) -> Op[Partitions]:
    """The partitions, and how long they last. Warns when that is short.

    Args:
        exact: count the rows, which reads the whole log.
    """
    rows = yield Query(statements["partitions"])
    now = yield from time_before(statements, timedelta(0))
    partitions = [Partition(*row) for row in rows]
    if exact:
        counts: dict[str, int] = dict((yield Query(statements["count_partitions"])))
        partitions = [each._replace(rows=counts.get(each.name, 0)) for each in partitions]
    # Those that a clock which was ahead has made later on are no reserve.
    reach, ends = 0, now
    for each in partitions:
        if each.starts_at <= ends < each.ends_at:
            reach, ends = reach + 1, each.ends_at
    is_short = reach < 2
    if is_short:
        logger.warning(
            "eventlog.partitions_short", runway=str(ends - now), advice="run setup(), which makes partitions ahead"
        )
    return Partitions(partitions, ends - now, is_short)


def check_owner(statements: Statements, what: str) -> Op[None]:
    """Raises MissingGrantError when the user does not own the log. Better before anything was done than after."""
    ((is_owner, owner),) = yield Query(statements["owner"])
    if not is_owner:
        raise MissingGrantError(f"only the log's owner can {what}: run this as {owner!r}, or a member of it")


def drop_partition(statements: Statements, name: str, actor: str | None) -> Op[tuple[int, int]]:
    """Drop a partition on which nothing depends; returns its rows and bytes. Run it in one transaction.

    Raises (from the driver):
        LogBusyError: when its lock was not to be had, or something in it is still needed.
        MissingGrantError: when the user does not own the log.
    """
    ((_, rows, size),) = yield Query(statements["drop_partition"], (name, actor))
    return rows or 0, size or 0
