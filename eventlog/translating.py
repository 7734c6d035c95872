"""What the database driver's errors mean: the one place where psycopg's become `EventLogError`s."""

from __future__ import annotations

import psycopg
from psycopg import errors as pg

from eventlog.errors import (
    ConnectionLostError,
    EventLogError,
    LogBusyError,
    MissingGrantError,
    NotSetUpError,
    StorageError,
)

__all__ = ["is_lost", "translate"]


def translate(exc: psycopg.Error) -> EventLogError:
    """The domain error for a driver's error."""
    message = str(exc).strip() or type(exc).__name__
    if isinstance(exc, (pg.UndefinedTable, pg.UndefinedFunction, pg.InvalidSchemaName)):
        return NotSetUpError(f"{NotSetUpError()} ({exc.diag.message_primary})")
    if isinstance(exc, pg.InsufficientPrivilege):
        return MissingGrantError(f"{exc.diag.message_primary}: grant it to the user that the saver connects as")
    if isinstance(exc, (pg.LockNotAvailable, pg.ObjectInUse, pg.DeadlockDetected, pg.SerializationFailure)):
        return LogBusyError(f"{LogBusyError()} ({exc.diag.message_primary})")
    if _is_pool_error(exc):
        return StorageError(f"the pool gave no connection: {message}")
    if is_lost(exc):
        return ConnectionLostError(f"the connection to PostgreSQL was lost: {message}")
    return StorageError(f"PostgreSQL refused the operation: {message}")


def is_lost(exc: psycopg.Error) -> bool:
    """Whether the connection is gone. An error without a SQLSTATE is the client's own: it could not send or receive."""
    if isinstance(exc, (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.IdleSessionTimeout)):
        return True
    return isinstance(exc, psycopg.OperationalError) and exc.sqlstate is None and not _is_pool_error(exc)


def _is_pool_error(exc: psycopg.Error) -> bool:
    """A pool that is closed or exhausted says so itself, and trying again at once would only add to the queue."""
    return type(exc).__module__.startswith("psycopg_pool")
