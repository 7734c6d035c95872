"""The partitions of the log: creating them in time, their ranges and sizes, dropping them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from eventlog.db.errors import ask_owner
from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import MissingGrantError
from eventlog.logger import logger
from eventlog.settings import StoredSettings

__all__ = [
    "Partition",
    "Partitions",
    "check_owner",
    "drop_partition",
    "ensure_partitions",
    "may_drop",
    "put_settings",
    "read_partitions",
    "time_before",
]


class Partition(NamedTuple):
    """A partition of the log."""

    name: str
    """The table's name."""
    starts_at: datetime
    """The first moment, inclusive."""
    ends_at: datetime
    """The end, exclusive."""
    rows: int
    """Events."""
    bytes: int
    """Bytes on disk, with indexes and free space."""
    is_exact: bool = False
    """Whether rows were counted. Otherwise they are the server's estimate."""


class Partitions(NamedTuple):
    """The partitions of the log."""

    partitions: list[Partition]
    """The partitions, oldest first."""
    runway: timedelta
    """The time from now to the end of the last partition. An append that finds no partition makes it, if its user
    may."""
    is_short: bool
    """Whether no partition follows the current one."""


def ensure_partitions(
    statements: Statements, ahead: int | None = None, *, thread_id: str | None = None
) -> Op[list[str]]:
    """Create the current partition and those ahead, if missing; returns their names.

    Args:
        ahead: how many beyond the current one, which only the owner may choose; the stored number by default.
        thread_id: create those for this thread's next events, if its streams are ahead of the clock.
    """
    if ahead is None:
        rows = yield Query(statements["extend_partitions"], (thread_id,))
    else:
        yield from check_owner(statements, "choose how many partitions there are ahead")
        rows = yield Query(statements["ensure_partitions"], (ahead,))
    return [name for (name,) in rows]


def put_settings(statements: Statements, stored: StoredSettings) -> Op[None]:
    """Store the settings of the log's partitions. Raises MissingGrantError unless the user owns the log."""
    yield from check_owner(statements, "change its settings")
    yield Query(statements["put_settings"], stored.model_dump(), returns=False)


def time_before(statements: Statements, age: timedelta) -> Op[datetime]:
    """The database's current time minus a duration."""
    ((at,),) = yield Query(statements["time_before"], (age,))
    assert isinstance(at, datetime)
    return at


def read_partitions(statements: Statements, *, exact: bool) -> Op[Partitions]:
    """The partitions, and how long they last. Warns when that is short. With `exact`, reads the whole log."""
    rows = yield Query(statements["partitions"])
    now = yield from time_before(statements, timedelta(0))
    partitions = [Partition(*row) for row in rows]
    if exact:
        counts: dict[str, int] = dict((yield Query(statements["count_partitions"])))
        partitions = [each._replace(rows=counts.get(each.name, 0), is_exact=True) for each in partitions]
    # Partitions behind a gap, which a clock that was ahead has created, are no reserve.
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


def check_owner(statements: Statements, what: str) -> Op[str]:
    """Raises MissingGrantError unless the user owns the log. Call it before the operation changes anything.

    Returns the owner.
    """
    ((is_owner, owner),) = yield Query(statements["owner"])
    if not is_owner:
        raise MissingGrantError(f"only the log's owner can {what}: run this as {owner!r}, or a member of it")
    return str(owner)


def may_drop(statements: Statements) -> Op[None]:
    """Raises MissingGrantError unless the user may drop partitions. Call it before the operation changes anything."""
    ((may, user),) = yield Query(statements["may_drop"])
    if not may:
        raise MissingGrantError(
            f"user {user!r} may not drop partitions. {ask_owner('eraser', user, statements.schema)}"
        )


def drop_partition(
    statements: Statements, name: str, actor: str | None, archive: bytes | None = None
) -> Op[tuple[int, int]]:
    """Drop a partition that no stream needs; returns its rows and bytes. Run it in one transaction.

    The driver raises LogBusyError if a lock was not granted in time, or a stream still needs the partition.

    Args:
        archive: sha256 of the file that its events were written to.
    """
    ((_, rows, size),) = yield Query(statements["drop_partition"], (name, actor, archive))
    return rows or 0, size or 0
