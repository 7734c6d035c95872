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
    ReadOnlyServerError,
    ServerFullError,
    StatementCanceledError,
    StorageError,
)

__all__ = ["is_lost", "read_only", "translate"]

#: PostgreSQL's class "insufficient resources": disk full, out of memory, too many connections or locks.
_INSUFFICIENT = "53"


def translate(exc: psycopg.Error) -> EventLogError:
    """The domain error for a driver's error."""
    message = str(exc).strip().rstrip(".") or type(exc).__name__
    primary = exc.diag.message_primary
    if isinstance(exc, (pg.UndefinedTable, pg.UndefinedFunction, pg.InvalidSchemaName)):
        return NotSetUpError(f"{NotSetUpError()} ({primary})")
    if isinstance(exc, pg.InsufficientPrivilege):
        return MissingGrantError(f"{primary}: grant it to the user that the saver connects as")
    if isinstance(exc, (pg.LockNotAvailable, pg.ObjectInUse, pg.DeadlockDetected, pg.SerializationFailure)):
        return LogBusyError(f"{LogBusyError()} ({primary})")
    if is_lost(exc):
        return ConnectionLostError(
            f"the connection to PostgreSQL was lost: {message}. A pool, or from_conn_string(), makes a new one by "
            "itself; a saver on a single connection cannot: give it another"
        )
    if isinstance(exc, pg.QueryCanceled):
        return StatementCanceledError(f"{StatementCanceledError()} ({primary})")
    if exc.sqlstate is not None and exc.sqlstate.startswith(_INSUFFICIENT):
        return ServerFullError(f"{ServerFullError()} ({primary})")
    return StorageError(f"PostgreSQL refused the operation: {message}")


def read_only(exc: psycopg.Error, *, is_standby: bool) -> ReadOnlyServerError:
    """The domain error where a server takes no writes."""
    advice = (
        "it is a standby. Connect to the primary; a connection string with several hosts and "
        "target_session_attrs=read-write finds it"
        if is_standby
        else "the database, the user or the connection has default_transaction_read_only set"
    )
    return ReadOnlyServerError(f"{ReadOnlyServerError()} ({exc.diag.message_primary}): {advice}", is_standby=is_standby)


def is_lost(exc: psycopg.Error) -> bool:
    """Whether the connection is gone. An error without a SQLSTATE is the client's own: it could not send or receive.

    It calls it internal when answers are more than were asked for: a pooler has added one, before it hung up. Those of
    class 08 are a pooler's too: it has lost the server's connection, or cannot make one (PgBouncer says 08P01).
    """
    if exc.sqlstate is not None and exc.sqlstate.startswith("08"):
        return True
    if isinstance(exc, (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.IdleSessionTimeout)):
        return True
    return isinstance(exc, (psycopg.OperationalError, psycopg.InternalError)) and exc.sqlstate is None
