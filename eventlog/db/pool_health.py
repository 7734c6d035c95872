"""Connections of a pool: whether one is alive, told without asking the server, and why there is none."""

from __future__ import annotations

import select
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from eventlog.errors import ConnectionLostError, PoolTimeoutError, StorageError

__all__ = ["POOL_ERRORS", "PoolWatch", "hang_up", "is_stale"]

#: What a pool raises itself.
POOL_ERRORS = (PoolClosed, PoolTimeout, TooManyRequests)


def is_stale(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server has ended an idle connection, as far as this side has heard.

    A server that ends a connection says so; until somebody reads, that lies in the socket. One look at the socket costs
    a microsecond, where asking the server costs a round trip.
    """
    if conn.closed:
        return True
    if not hasattr(select, "poll"):
        return False  # Windows: found out by the statement that fails, and repeated.
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    # A notice, or a setting that changed, may lie there as well. Behind it may be the end.
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
    """Says why a pool gives no connection."""

    def __init__(self, pool: ConnectionPool[Any] | AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._failures = 0
        """Failed attempts to connect that say nothing of now."""
        self._successes = -1
        """How many connections it had made when it was last found that the server cannot be reached."""

    def reset(self) -> None:
        """The pool gave a new connection, so the server can be reached."""
        self._failures, self._successes = self._pool.get_stats().get("connections_errors", 0), -1

    def explained(self, exc: psycopg.Error) -> StorageError:
        """The domain error for a pool's own, with the state that the pool is in."""
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
            self._failures = 0  # Somebody has set the pool's statistics back (`pop_stats`).
        # The pool may pause between its attempts for longer than a call waits.
        if failures > self._failures or tries - failures == self._successes:
            self._failures, self._successes = failures, tries - failures
            return ConnectionLostError(
                f"PostgreSQL cannot be reached: the pool {pool.name!r} gave no connection within "
                f"{pool.timeout:g} seconds ({state}). The pool keeps trying; the logger psycopg.pool has the reasons"
            )
        return PoolTimeoutError(
            f"the pool {pool.name!r} gave no connection: {exc} ({state}). Raise max_size, or find "
            "the code that holds its connections; if none does, the logger psycopg.pool has the reasons"
        )
