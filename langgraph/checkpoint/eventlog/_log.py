"""The event log itself: history, proofs, erasing and operation, beside the methods that LangGraph calls."""

from __future__ import annotations

from eventlog.partitions import Partitions, read_partitions
from eventlog.rights import Rights, check_grants, grant_rights
from eventlog.statistics import Stats
from langgraph.checkpoint.eventlog._log_erasing import LogErasing
from langgraph.checkpoint.eventlog._log_following import LogFollowing
from langgraph.checkpoint.eventlog._log_projections import LogProjections
from langgraph.checkpoint.eventlog._log_proof import LogProof
from langgraph.checkpoint.eventlog._log_reading import LogReading
from langgraph.checkpoint.eventlog._log_retention import LogRetention
from langgraph.checkpoint.eventlog._log_transfer import LogTransfer
from langgraph.checkpoint.eventlog.audit.inspect import stats
from langgraph.checkpoint.eventlog.lifecycle import threads

__all__ = ["EventLog"]


class EventLog(LogErasing, LogRetention, LogReading, LogProof, LogFollowing, LogProjections, LogTransfer):
    """Audit, operate and erase an event log, with or without a graph.

    `EventLogSaver.log` is the log of a saver: it shares the saver's connection, settings, caches and serializer. A log
    opened alone needs no graph. Give it the `schema` and the `serde` of the savers that write it.

    Every method raises `InvalidInputError` for invalid arguments, `NotSetUpError` when `setup()` was never run,
    `ConnectionLostError` when the server is gone, and another `StorageError` when PostgreSQL refuses.

    Args:
        conn: A psycopg `Connection` or `ConnectionPool`, with any settings. With a pool, calls run in parallel. The log
            does not close it.
        pipe: The `Pipeline` of the connection, if it is in pipeline mode. It does not go with a pool.
        serde: The serializer of the savers that write the log; LangGraph's `JsonPlusSerializer` by default. The log
            builds only safe types with it, unless `trust_types` is true.
        settings: Fields of `Settings`, such as `schema`.

    Raises:
        InvalidInputError: The connection is async, a pool was given with a pipeline, or a setting is invalid.
    """

    def grant(self, rights: Rights, role: str) -> None:
        """Grant a set of rights to a database role.

        `setup(grant=…)` does the same. The grant is remembered: a later `setup()` adds the rights that a new version
        needs.

        Args:
            rights: `"writer"`, `"eraser"`, `"sealer"`, `"auditor"`, `"projector"` or `"importer"`.
            role: An existing role.

        Raises:
            InvalidInputError: The set of rights or the role does not exist.
            MissingGrantError: The database user does not own the log.
        """
        ((rights, role),) = check_grants({rights: role})
        return self._driver.run_atomic(
            lambda: grant_rights(self._context.statements, rights, role, self._context.settings.views)
        )

    def partitions(self, *, exact: bool = False) -> Partitions:
        """List the partitions of the log, and tell how long they last.

        The call logs the warning `eventlog.partitions_short` when no partition follows the current one.

        Args:
            exact: Count rows, which reads the whole log. False takes the server's estimates.

        Returns:
            The partitions, oldest first.
        """
        return self._driver.run(lambda: read_partitions(self._context.statements, exact=exact))

    def make_partitions(self, ahead: int | None = None) -> list[str]:
        """Make the current partition and the following ones, where they are missing.

        Args:
            ahead: The number of partitions beyond the current one, 0 to 1,000; only the log's owner may choose it. None
                takes the stored number.

        Returns:
            The names of the new partitions.

        Raises:
            MissingGrantError: The database user may not make partitions, or does not own the log and gave `ahead`.
        """
        return self._driver.run(lambda: threads.make_partitions(self._context, ahead))

    def stats(self, *, exact: bool = False) -> Stats:
        """Return the log in numbers: sizes, counts, growth, replay lengths, and the cache of this object.

        The call logs the warning `eventlog.partitions_short` as `partitions` does.

        Args:
            exact: Count and sum all rows, which reads the whole log. False takes the server's estimates and a sample.

        Returns:
            The numbers. `estimates` names the fields that were not counted.
        """
        return self._driver.run(lambda: stats(self._context, exact))
