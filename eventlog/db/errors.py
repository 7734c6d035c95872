"""What the database driver's errors mean: the one place where psycopg's become `EventLogError`s."""

from __future__ import annotations

import re
import shlex
from typing import Any

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

__all__ = ["RefusedError", "ask_owner", "is_lost", "read_only", "translate"]

#: PostgreSQL's class "insufficient resources": disk full, out of memory, too many connections or locks.
_INSUFFICIENT = "53"

#: What PostgreSQL says of an object that a user may not use, where its messages are in English.
_DENIED = re.compile(r"permission denied for (schema|table|view|sequence|function) (.+)", re.DOTALL)

#: The schema in a statement of ours: the first name that is quoted and qualifies another.
_SCHEMA = re.compile(r'("(?:[^"]|"")+")\.')

_AS_OWNER = "Run this as the owner of the log"

#: What only the owner may do.
_CHANGES = re.compile(r"\s*(insert|update|delete|lock|drop|create|alter|truncate)\b", re.IGNORECASE)

#: Of each function that is granted, the first set of rights that has it.
_SET_OF = {
    **dict.fromkeys(
        ("clock", "find_stream_name", "is_replica", "newest_generation", "record_details", "record_stubs"), "auditor"
    ),
    **dict.fromkeys(("read_ancestry", "read_checkpoint", "read_checkpoints", "read_feed"), "auditor"),
    **dict.fromkeys(("read_listed", "read_replay"), "auditor"),
    **dict.fromkeys(("append_checkpoint", "append_checkpoint_strict", "append_writes"), "writer"),
    **dict.fromkeys(("append_together", "copy_stream", "extend_partitions", "lock_streams"), "writer"),
    "start_generation": "writer",
    **dict.fromkeys(("cut_stream", "delete_thread", "drop_partition", "lock_partition", "relocate_events"), "eraser"),
    **dict.fromkeys(("begin_seal", "finish_seal"), "sealer"),
    **dict.fromkeys(("advance_projection", "forget_projection"), "projector"),
    **dict.fromkeys(("lock_projection", "start_projection"), "projector"),
}


class RefusedError(pg.InsufficientPrivilege):
    """A driver's InsufficientPrivilege, with what PostgreSQL's message leaves out: the user and the statement."""

    def __init__(self, exc: pg.InsufficientPrivilege, conn: psycopg.BaseConnection[Any], statement: bytes) -> None:
        super().__init__(*exc.args, info=exc.pgresult, encoding=conn.info.encoding)
        # As PostgreSQL tells it; a pooler may not repeat it.
        user = conn.pgconn.parameter_status(b"session_authorization")
        self.user = user.decode() if user else conn.info.user
        self.statement = statement.decode()


def translate(exc: psycopg.Error) -> EventLogError:
    """The domain error for a driver's error."""
    message = str(exc).strip().rstrip(".") or type(exc).__name__
    primary = exc.diag.message_primary
    if isinstance(exc, (pg.UndefinedTable, pg.UndefinedFunction, pg.InvalidSchemaName)):
        return NotSetUpError(f"{NotSetUpError()} ({primary})")
    if isinstance(exc, pg.InsufficientPrivilege):
        return MissingGrantError(_missing_grant(exc))
    if isinstance(exc, (pg.LockNotAvailable, pg.ObjectInUse, pg.DeadlockDetected, pg.SerializationFailure)):
        return LogBusyError(f"{LogBusyError()} ({primary})")
    if is_lost(exc):
        return ConnectionLostError(
            f"the connection to PostgreSQL was lost: {message}. A pool, or from_conn_string(), opens a new one by "
            "itself; a saver on a single connection needs a new connection from you"
        )
    if isinstance(exc, pg.QueryCanceled):
        return StatementCanceledError(f"{StatementCanceledError()} ({primary})")
    if exc.sqlstate is not None and exc.sqlstate.startswith(_INSUFFICIENT):
        return ServerFullError(f"{ServerFullError()} ({primary})")
    return StorageError(f"PostgreSQL refused the operation: {message}")


def _missing_grant(exc: pg.InsufficientPrivilege) -> str:
    primary = exc.diag.message_primary or str(exc)
    if not isinstance(exc, RefusedError):
        return f"the database user lacks a right: {primary}. Grant it to the user that the saver connects as"
    refused = f"user {exc.user!r} lacks a right: {primary}"
    denied = _DENIED.fullmatch(primary)
    schema = _SCHEMA.search(exc.statement)
    if denied is None or schema is None:
        return f"{refused}. {_AS_OWNER}"
    kind, name = denied.groups()
    # A schema or a table is needed for what the statement calls.
    called = [name] if kind == "function" else re.findall(r'\."?(\w+_v\d+)"?\(', exc.statement)
    rights = [_SET_OF[each.rsplit("_v", 1)[0]] for each in called if each.rsplit("_v", 1)[0] in _SET_OF]
    if not rights:
        if kind == "function" or _CHANGES.search(exc.statement):
            return f"{refused}. {_AS_OWNER}"
        rights = ["auditor"]
    log = schema[1][1:-1].replace('""', '"')
    return f"{refused}. {ask_owner(rights[0], exc.user, log)}"


def ask_owner(rights: str, user: str, schema: str) -> str:
    """The end of an error: the command that grants a set of rights."""
    option = "" if schema == "eventlog" else f" --schema {shlex.quote(schema)}"
    return f"Let the log's owner run: eventlog grant {rights} {shlex.quote(user)}{option}"


def read_only(exc: psycopg.Error, *, is_standby: bool) -> ReadOnlyServerError:
    """The domain error where a server takes no writes."""
    advice = (
        "it is a standby. Connect to the primary: a connection string with several hosts and "
        "target_session_attrs=read-write finds it"
        if is_standby
        else "default_transaction_read_only is set on the database, the user or the connection"
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
