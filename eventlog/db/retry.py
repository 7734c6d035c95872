"""Retries: one policy for everything that may be repeated, and the errors to retry.

An operation may start again from the beginning once its transaction is over, or its end cannot be known: reads change
nothing, and an append checks whether it was done already (`eventlog.db.sync.Driver.run`). Only lost connections and
conflicts between transactions are retried. Any other error would come again, or is the caller's decision, above all a
timeout that the caller set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import tenacity
from psycopg import errors as pg
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tenacity.stop import stop_base
from typing_extensions import Self

from eventlog.db.errors import is_moving
from eventlog.errors import ConnectionLostError, EventLogError, LogBusyError, ReadOnlyServerError
from eventlog.logger import logger

__all__ = ["OnRetry", "RetryPolicy", "is_conflict", "is_node_lost", "wants_another_connection"]

#: Called with each error that is retried, the number of the next try, and the seconds until then.
OnRetry = Callable[[EventLogError, int, float], None]


class _StopAt(stop_base):
    """Stops if the next try would begin too late; the limit may change in the meantime."""

    def __init__(self, ends: Callable[[], float]) -> None:
        self._ends = ends

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return monotonic() + retry_state.upcoming_sleep >= self._ends()


class _StopAfter(stop_base):
    """Stops after a number of tries. While a node of a Citus cluster is away, each try fails at once: then the number
    says nothing."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        exc = retry_state.outcome.exception() if retry_state.outcome is not None else None
        is_endless = self._attempts > 1 and exc is not None and is_node_lost(exc)
        return not is_endless and retry_state.attempt_number >= self._attempts


class RetryPolicy(BaseModel):
    """How often, how fast and for how long to retry an operation. All times are in seconds.

    Before try n+1 a driver waits a random time between 0 and ``first_wait * 2**(n-1)``, at most ``longest_wait``, so
    that calls that failed together do not come back together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    attempts: int = Field(8, ge=1)
    """The number of tries; 1 means no retry. Until a node of a Citus cluster can be reached again, only `deadline` ends
    the tries."""

    first_wait: float = Field(0.05, ge=0)
    """The longest wait before the second try."""

    longest_wait: float = Field(2.0, ge=0)
    """The longest wait before any try."""

    deadline: float = Field(60.0, ge=0)
    """The longest that a call waits in total, for connections and between tries, from its beginning. No try begins
    later."""

    away_deadline: float | None = Field(None, ge=0)
    """The same while the server is known to be away: an earlier call lost its connection or got none, and an attempt to
    connect failed. And while a node of a Citus cluster is away, for the calls that need the node. None: `deadline`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.longest_wait < self.first_wait:
            raise ValueError("longest_wait must not be less than first_wait")
        return self

    def retrying(
        self,
        may_retry: Callable[[BaseException], bool],
        ends: Callable[[], float] | None = None,
        on_retry: OnRetry | None = None,
    ) -> tenacity.Retrying:
        """Calls a function until it succeeds, fails for good, or may not be retried.

        Args:
            ends: returns when the last try may begin, by `time.monotonic`; `deadline` from now by default.
            on_retry: called for each retry.
        """
        return tenacity.Retrying(**self._arguments(may_retry, ends, on_retry))

    def async_retrying(
        self,
        may_retry: Callable[[BaseException], bool],
        ends: Callable[[], float] | None = None,
        on_retry: OnRetry | None = None,
    ) -> tenacity.AsyncRetrying:
        """As `retrying`, for coroutine functions."""
        return tenacity.AsyncRetrying(**self._arguments(may_retry, ends, on_retry))

    def _arguments(
        self,
        may_retry: Callable[[BaseException], bool],
        ends: Callable[[], float] | None,
        on_retry: OnRetry | None,
    ) -> dict[str, Any]:
        latest = monotonic() + self.deadline
        return {
            "retry": tenacity.retry_if_exception(may_retry),
            "stop": _StopAfter(self.attempts) | _StopAt(ends or (lambda: latest)),
            "wait": tenacity.wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait),
            "before_sleep": partial(self._tell, on_retry),
            "reraise": True,
        }

    def _tell(self, on_retry: OnRetry | None, state: tenacity.RetryCallState) -> None:
        exc = state.outcome.exception() if state.outcome is not None else None
        assert isinstance(exc, EventLogError)
        wait = state.next_action.sleep if state.next_action is not None else 0.0
        logger.warning(
            "eventlog.retrying",
            error=type(exc).__name__,
            reason=str(exc),
            attempt=state.attempt_number + 1,
            attempts=None if is_node_lost(exc) else self.attempts,
            wait_seconds=round(wait, 3),
        )
        if on_retry is not None:
            on_retry(exc, state.attempt_number + 1, wait)


def wants_another_connection(exc: BaseException) -> bool:
    """Whether another connection may help: this one is lost, or leads to a server that is not the primary."""
    if isinstance(exc, ConnectionLostError):
        return not exc.node
    return isinstance(exc, ReadOnlyServerError) and exc.is_standby


def is_node_lost(exc: BaseException) -> bool:
    """Whether another node of a Citus cluster cannot be reached: on the same connection, a later try may succeed."""
    return isinstance(exc, ConnectionLostError) and exc.node != ""


def is_conflict(exc: BaseException) -> bool:
    """Whether a transaction was undone in favour of another one, or of a shard's move: repeated, it may succeed."""
    cause = exc.__cause__
    return isinstance(exc, LogBusyError) and (
        isinstance(cause, (pg.SerializationFailure, pg.DeadlockDetected)) or is_moving(cause)
    )
