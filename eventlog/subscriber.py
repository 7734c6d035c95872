"""A log that receives another log's events by PostgreSQL's logical replication, and may take that log's place.

PostgreSQL replicates the rows of `events`, `generations`, `partitions`, `seals`, `sealed` and `ended`, but no commands:
a trigger creates and drops partitions as the rows of `partitions` say. The projections and snapshots are derived here
when the subscriber takes over. Until then they lag behind the log, and a stream without a row in `streams` would be
numbered from 1 again. So another trigger refuses appends; replicated rows do not fire it.
"""

from __future__ import annotations

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, StorageError
from eventlog.partitions import check_owner

__all__ = ["check_take_over", "make_subscriber", "take_over"]


def make_subscriber(statements: Statements) -> Op[None]:
    """Make an empty log refuse all events but replicated ones. Raises as `EventLog.make_subscriber`."""
    yield from check_owner(statements, "do this")
    ((is_distributed,),) = yield Query(statements["is_distributed"])
    if is_distributed:
        raise InvalidInputError(
            "the log is distributed over a Citus cluster, and cannot become a subscriber: set up a log on one server "
            "for it"
        )
    yield Query(statements["make_subscriber"], returns=False)


def check_take_over(statements: Statements) -> Op[None]:
    """Check that the log can take over. Raises InvalidInputError, MissingGrantError, StorageError as
    `EventLog.take_over`."""
    yield from check_owner(statements, "do this")
    ((is_subscriber, subscriptions),) = yield Query(statements["subscriber"])
    if not is_subscriber:
        raise InvalidInputError("this log is not a subscriber: there is nothing to take over")
    if subscriptions:
        names = ", ".join(subscriptions)
        raise StorageError(
            f"the log still receives another log's events: stop all writers of that log, wait until all events have "
            f"arrived, and drop the subscription here ({names})"
        )


def take_over(statements: Statements) -> Op[None]:
    """Take events again, once `streams` agrees with the log. Does nothing if that was done."""
    yield Query(statements["take_over"])
