"""While the server is away: calls are limited, and the driver tries to connect once a second.

A pool waits longer and longer between its attempts to connect, by default up to minutes, and cannot be told that they
may succeed again. So after a call loses its connection, this module also tries to connect, once a second, with a
connection that it closes at once. When that succeeds after a failure, it makes the pool connect: the pool gets one more
connection (`resize` is the only public method that connects at once, however long the pool would wait).
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextvars import Context, ContextVar
from math import inf
from typing import Any, Final, NoReturn

import psycopg
from psycopg_pool import (
    AsyncConnectionPool,
    AsyncNullConnectionPool,
    ConnectionPool,
    NullConnectionPool,
    PoolTimeout,
)

from eventlog.db.retry import RetryPolicy
from eventlog.logger import logger

__all__ = ["CALL_BEGAN", "Outage", "ServerAwayTimeout"]

#: Seconds between two attempts.
LOOK_SECONDS: Final = 1.0

#: Seconds before the first attempt: if only one connection was lost, the pool has another by then.
FIRST_LOOK_SECONDS: Final = 0.3

#: Seconds after which an attempt gives up; libpq's minimum is 2.
CONNECT_TIMEOUT: Final = 5

#: During an outage, a call that waits for a connection checks this often, in seconds, whether it may wait on.
SLICE_SECONDS: Final = 0.2

#: When the current call of this thread or task began, by `time.monotonic`; for a batch of several calls, never.
CALL_BEGAN: Final[ContextVar[float]] = ContextVar("CALL_BEGAN", default=inf)


class ServerAwayTimeout(PoolTimeout):
    """A call waited as long as it may while the server is away.

    Args:
        since: since when, by `time.monotonic`: `Outage.since` may change before the error is handled.
    """

    def __init__(self, message: str, since: float) -> None:
        super().__init__(message)
        # All of them, as an error is made again from its arguments for each call of a batch.
        self.args = (message, since)
        self.since = since

    def __str__(self) -> str:
        return str(self.args[0])


class Outage:
    """A driver's knowledge of its server's absence.

    Args:
        pool: the driver's.
        policy: limits how long its calls take.
    """

    def __init__(self, pool: ConnectionPool[Any] | AsyncConnectionPool[Any], policy: RetryPolicy) -> None:
        self._pool, self._policy = pool, policy
        self.spare = policy.deadline - pool.timeout
        """How long a call may have taken already, in seconds, and still wait for a connection as long as the pool
        allows: zero if the server may be away."""
        self.since: float | None = None
        """Since when the server is known to be away, by `time.monotonic`."""
        self.is_suspected = False
        """Whether there is a reason to try to connect."""
        self._looking: threading.Thread | asyncio.Task[None] | None = None
        self._lock = threading.Lock()

    @property
    def is_away(self) -> bool:
        """Whether the last attempt failed."""
        return self.since is not None

    def ends(self, began: float) -> float:
        """When a call that began at that time must end."""
        away, deadline = self._policy.away_deadline, self._policy.deadline
        return began + (deadline if away is None or not self.is_away else min(away, deadline))

    def waits(self) -> Generator[float, None, NoReturn]:
        """How long to ask the pool for a connection at a time, in seconds.

        If the server was reached by the end of a call's wait, the call may wait for longer, and asks again.

        Raises:
            PoolTimeout: that was enough; as ServerAwayTimeout, if the server is away.
        """
        began = asked = time.monotonic()
        call_began = min(began, CALL_BEGAN.get())
        while True:
            since = self.since
            left = min(began + self._pool.timeout, self.ends(call_began)) - time.monotonic()
            if left <= 0 and asked > began:
                raise _timeout(asked - began, since)
            # Only if the server may be away: a call that asks again loses its place in the pool's queue.
            yield max(0.001, min(left, SLICE_SECONDS) if self.is_suspected else left)  # Pools refuse shorter timeouts.
            asked = time.monotonic()

    def is_over(self) -> None:
        """The server was reached."""
        self.since, self.is_suspected = None, False
        self.spare = self._policy.deadline - self._pool.timeout

    def found(self) -> None:
        """The server is known to be away."""
        self.since = time.monotonic() if self.since is None else self.since
        self.spare = -inf

    def suspect(self) -> None:
        """A connection was lost, or the pool gave none: try to connect until the server answers."""
        self.spare, self.is_suspected = -inf, True
        with self._lock:
            looking = self._looking
            if looking is not None and not _is_over(looking):
                return
            if isinstance(self._pool, ConnectionPool):
                self._looking = threading.Thread(
                    target=_look, args=(weakref.ref(self),), name="eventlog-outage", daemon=True
                )
                self._looking.start()
            else:
                # In an empty context, like a new thread: it outlives the call with its log fields and span.
                create_task = asyncio.get_running_loop().create_task
                self._looking = Context().run(create_task, _look_async(weakref.ref(self)))

    def plan(self) -> tuple[Any, Any] | None:
        """The arguments to connect with: the pool's own, each a value or a function; None: no attempt is needed."""
        pool = self._pool
        return None if pool.closed or not self.is_suspected else (pool.conninfo, pool.kwargs)

    def needs_connection(self) -> bool:
        """Whether the pool is to connect at once: it has no connection to give, and may pause before its next
        attempt."""
        if isinstance(self._pool, (NullConnectionPool, AsyncNullConnectionPool)) or self._pool.closed:
            return False  # A NullConnectionPool connects for each call.
        return self.is_away and not self._pool.get_stats().get("pool_available", 0)

    def resizes(self) -> list[Callable[[], Any]]:
        """Make the pool connect at once: one more connection, until the pool shrinks again."""
        pool, least, most = self._pool, self._pool.min_size, self._pool.max_size
        return [
            lambda: pool.resize(least + 1, max(most, least + 1)),
            lambda: pool.resize(least, most),
        ]


def _timeout(waited: float, away_since: float | None) -> PoolTimeout:
    message = f"couldn't get a connection after {waited:.2f} sec"
    return PoolTimeout(message) if away_since is None else ServerAwayTimeout(message, away_since)


def _is_over(looking: threading.Thread | asyncio.Task[None]) -> bool:
    return looking.done() if isinstance(looking, asyncio.Future) else not looking.is_alive()


def _arguments(conninfo: Any, kwargs: Any) -> tuple[str, dict[str, Any]]:
    return conninfo or "", {**(kwargs or {}), "connect_timeout": CONNECT_TIMEOUT}


def _look(ref: weakref.ref[Outage]) -> None:
    time.sleep(FIRST_LOOK_SECONDS)
    while (outage := ref()) is not None and (plan := outage.plan()) is not None:
        try:
            conninfo, kwargs = _arguments(*(each() if callable(each) else each for each in plan))
            psycopg.Connection.connect(conninfo, **kwargs).close()
        except psycopg.Error:
            outage.found()
        except Exception as exc:
            # The pool's arguments may be functions of the user's.
            logger.warning("eventlog.outage_not_watched", reason=f"{type(exc).__name__}: {exc}")
            return
        else:
            if outage.needs_connection():
                for resize in outage.resizes():
                    resize()
            outage.is_over()
            return
        del outage  # The attempts must not keep a dropped saver alive.
        time.sleep(LOOK_SECONDS)


async def _look_async(ref: weakref.ref[Outage]) -> None:
    await asyncio.sleep(FIRST_LOOK_SECONDS)
    while (outage := ref()) is not None and (plan := outage.plan()) is not None:
        try:
            given = [each() if callable(each) else each for each in plan]
            conninfo, kwargs = _arguments(*[await each if inspect.isawaitable(each) else each for each in given])
            await (await psycopg.AsyncConnection.connect(conninfo, **kwargs)).close()
        except psycopg.Error:
            outage.found()
        except Exception as exc:
            logger.warning("eventlog.outage_not_watched", reason=f"{type(exc).__name__}: {exc}")
            return
        else:
            if outage.needs_connection():
                for resize in outage.resizes():
                    await resize()
            outage.is_over()
            return
        del outage
        await asyncio.sleep(LOOK_SECONDS)
