"""Connections of a pool: whether one is alive, without asking the server, and why the pool has none."""

from __future__ import annotations

import select
from time import monotonic
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from eventlog.db.outage import Outage, ServerAwayTimeout
from eventlog.db.retry import RetryPolicy
from eventlog.errors import ConnectionLostError, PoolTimeoutError, StorageError

__all__ = ["POOL_ERRORS", "PoolWatch", "hang_up", "is_stale"]

#: Errors that a pool raises itself.
POOL_ERRORS = (PoolClosed, PoolTimeout, TooManyRequests)


def is_stale(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server has ended an idle connection, as far as this side has been told.

    A server that ends a connection sends a message, which stays in the socket until the next read. Checking the socket
    costs a microsecond, asking the server a round trip.
    """
    if conn.closed:
        return True
    if not hasattr(select, "poll"):
        return False  # Windows: the next statement fails instead, and is repeated.
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    # The data may be a notice or a changed setting, with the end of the connection behind it.
    for _ in range(3):
        if not poll.poll(0):
            return False
        try:
            conn.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
    return True


def hang_up(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """End a connection, so that its pool makes another one. (Its `close` may mean to give it back: `close_returns`.)"""
    conn.pgconn.finish()


class PoolWatch:
    """Explains why a pool gives no connection."""

    def __init__(self, pool: ConnectionPool[Any] | AsyncConnectionPool[Any], policy: RetryPolicy) -> None:
        self._pool = pool
        self.outage = Outage(pool, policy)
        self._failures = 0
        """Failed attempts to connect from before, which say nothing about the present."""
        self._successes = -1
        """How many connections it had opened when the server was last found unreachable."""

    def reset(self) -> None:
        """The pool gave a new connection, so the server can be reached."""
        self.outage.is_over()
        self._failures, self._successes = self._pool.get_stats().get("connections_errors", 0), -1

    def explained(self, exc: psycopg.Error) -> StorageError:
        """The domain error for a pool's own error, with the pool's state."""
        pool = self._pool
        if isinstance(exc, PoolClosed):
            return StorageError(
                f"the pool {pool.name!r} is not open, or is closed: open it before the first call, and close it "
                "after the last (`with pool:`)"
            )
        stats = pool.get_stats()
        size, idle, waiting = (stats.get(each, 0) for each in ("pool_size", "pool_available", "requests_waiting"))
        tries, failures = (stats.get(each, 0) for each in ("connections_num", "connections_errors"))
        state = (
            f"{size} of at most {pool.max_size} connections open or being opened, {idle} of them idle; {waiting} other "
            f"calls wait; {failures} of {tries} attempts to connect failed"
        )
        if failures < self._failures:
            self._failures = 0  # The application has reset the pool's statistics (`pop_stats`).
        # The pool may pause between its attempts for longer than a call waits.
        away_since = exc.since if isinstance(exc, ServerAwayTimeout) else self.outage.since
        if away_since is not None or failures > self._failures or tries - failures == self._successes:
            self._failures, self._successes = failures, tries - failures
            known = "" if away_since is None else f", as was found {monotonic() - away_since:.0f} s ago"
            return ConnectionLostError(
                f"PostgreSQL cannot be reached{known}: the pool {pool.name!r} gave no connection: {exc} ({state}). The "
                "saver and the pool keep trying to reach it, and the logger psycopg.pool has the reasons. How long a "
                "call waits is set by RetryPolicy(deadline=…, away_deadline=…) and the pool's timeout"
            )
        return PoolTimeoutError(
            f"the pool {pool.name!r} gave no connection: {exc} ({state}). Raise max_size, or find "
            "the code that holds its connections; if none does, the logger psycopg.pool has the reasons"
        )
