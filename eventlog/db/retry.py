"""Trying again: one policy for all that may be repeated, and what may be.

Whatever a driver runs may start again from the beginning once its transaction is known to be over, or cannot be known:
reads change nothing, and an append looks whether it is there already (`eventlog.db.sync.Driver.run`). Tried again is
what the connection's loss, or two transactions in each other's way, kept from being done. Everything else would fail
again, or is the caller's to decide: a timeout that the caller set, above all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tenacity
from psycopg import errors as pg
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from eventlog.errors import ConnectionLostError, EventLogError, LogBusyError, ReadOnlyServerError
from eventlog.logger import logger

__all__ = ["RetryPolicy", "is_conflict", "wants_another_connection"]


class RetryPolicy(BaseModel):
    """How often, how fast and for how long an operation is tried again. All times are in seconds.

    Before try n+1 a driver waits a random time between 0 and ``first_wait * 2**(n-1)``, at most ``longest_wait``: those
    that failed together do not come back together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    attempts: int = Field(8, ge=1)
    """Tries in all; 1 never tries again."""

    first_wait: float = Field(0.05, ge=0)
    """The most that is waited before the second try."""

    longest_wait: float = Field(2.0, ge=0)
    """The most that is waited before any."""

    deadline: float = Field(60.0, ge=0)
    """No try begins later than this after the first one failed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.longest_wait < self.first_wait:
            raise ValueError("longest_wait must not be less than first_wait")
        return self

    def retrying(self, may_retry: Callable[[BaseException], bool]) -> tenacity.Retrying:
        """What calls a function until it succeeds, fails for good, or may not be tried again."""
        return tenacity.Retrying(**self._arguments(may_retry))

    def async_retrying(self, may_retry: Callable[[BaseException], bool]) -> tenacity.AsyncRetrying:
        """As `retrying`, for coroutine functions."""
        return tenacity.AsyncRetrying(**self._arguments(may_retry))

    def _arguments(self, may_retry: Callable[[BaseException], bool]) -> dict[str, Any]:
        return {
            "retry": tenacity.retry_if_exception(may_retry),
            "stop": tenacity.stop_after_attempt(self.attempts) | tenacity.stop_before_delay(self.deadline),
            "wait": tenacity.wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait),
            "before_sleep": self._log,
            "reraise": True,
        }

    def _log(self, state: tenacity.RetryCallState) -> None:
        exc = state.outcome.exception() if state.outcome is not None else None
        assert isinstance(exc, EventLogError)
        wait = state.next_action.sleep if state.next_action is not None else 0.0
        logger.warning(
            "eventlog.retrying",
            error=type(exc).__name__,
            reason=str(exc),
            attempt=state.attempt_number + 1,
            attempts=self.attempts,
            wait_seconds=round(wait, 3),
        )


def wants_another_connection(exc: BaseException) -> bool:
    """Whether another connection may do better: this one is gone, or leads to a server that is not the primary."""
    return isinstance(exc, ConnectionLostError) or (isinstance(exc, ReadOnlyServerError) and exc.is_standby)


def is_conflict(exc: BaseException) -> bool:
    """Whether PostgreSQL undid a transaction for another one's sake, and would do it if it came again."""
    return isinstance(exc, LogBusyError) and isinstance(exc.__cause__, (pg.SerializationFailure, pg.DeadlockDetected))
