"""A log that receives another one's events by PostgreSQL's logical replication, and may take that one's place.

What is replicated is the truth: `events`, `generations`, `partitions`, `seals`, `sealed` and `ended`. Commands are not:
a trigger makes and drops the partitions that the rows of `partitions` tell of. The projections and snapshots are
derived here when the replica takes over. Until then they do not say what the log says, and a stream that has no row in
`streams` would be numbered from 1 again: so another trigger, which what is replicated does not meet, refuses to append.
"""

from __future__ import annotations

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, StorageError
from eventlog.partitions import check_owner

__all__ = ["check_take_over", "make_subscriber", "take_over"]


def make_subscriber(statements: Statements) -> Op[None]:
    """Have an empty log refuse all events but those that are replicated. Raises as `EventLog.make_subscriber`."""
    yield from check_owner(statements, "do this")
    yield Query(statements["make_replica"], returns=False)


def check_take_over(statements: Statements) -> Op[None]:
    """That the log can take over. Raises InvalidInputError, MissingGrantError, StorageError as `EventLog.take_over`."""
    yield from check_owner(statements, "do this")
    ((is_replica, subscriptions),) = yield Query(statements["replica"])
    if not is_replica:
        raise InvalidInputError("this log is not a replica: there is nothing to take over")
    if subscriptions:
        names = ", ".join(subscriptions)
        raise StorageError(
            f"the log still receives another log's events: stop all writers of that log, wait until all events have "
            f"arrived, and drop the subscription here ({names})"
        )


def take_over(statements: Statements) -> Op[None]:
    """Take events again, when `streams` says what the log says. Nothing to do where that was done."""
    yield Query(statements["take_over"])
