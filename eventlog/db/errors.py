"""Translation of errors: the only place where psycopg's errors become `EventLogError`s."""

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

#: idle_in_transaction_session_timeout and transaction_timeout (since PostgreSQL 17) end the session, not a statement.
_ENDED_BY_TIMEOUT = ("25P03", "25P04")

#: PostgreSQL's message about an object that a user may not use, in English.
_DENIED = re.compile(r"permission denied for (schema|table|view|sequence|function) (.+)", re.DOTALL)

#: The schema in one of our statements: the first quoted name that qualifies another.
_SCHEMA = re.compile(r'("(?:[^"]|"")+")\.')

_AS_OWNER = "Run this as the owner of the log"

#: Operations that only the owner may run.
_CHANGES = re.compile(r"\s*(insert|update|delete|lock|drop|create|alter|truncate)\b", re.IGNORECASE)

#: For each granted function, the first set of rights that has it.
_SET_OF = {
    **dict.fromkeys(
        ("clock", "find_stream_name", "is_subscriber", "newest_generation", "record_details", "record_stubs"), "auditor"
    ),
    **dict.fromkeys(("read_ancestry", "read_checkpoint", "read_checkpoints", "read_feed"), "auditor"),
    **dict.fromkeys(("read_listed", "read_replay", "is_distributed"), "auditor"),
    **dict.fromkeys(("feed_holder", "feed_keys", "feed_parts"), "auditor"),
    **dict.fromkeys(("end_node_feed", "measure_node_feed", "read_node_feed"), "auditor"),
    **dict.fromkeys(("append_checkpoint", "append_checkpoint_strict", "append_writes"), "writer"),
    **dict.fromkeys(("append_together", "copy_stream", "extend_partitions", "lock_streams"), "writer"),
    "start_generation": "writer",
    **dict.fromkeys(("cut_stream", "delete_thread", "drop_partition", "lock_partition", "relocate_events"), "eraser"),
    **dict.fromkeys(("hold_maintenance", "set_retention"), "eraser"),
    **dict.fromkeys(("begin_seal", "finish_seal"), "sealer"),
    **dict.fromkeys(("advance_projection", "forget_projection"), "projector"),
    **dict.fromkeys(("lock_projection", "set_aside", "start_projection", "take_back"), "projector"),
    **dict.fromkeys(("import_events", "import_lock", "record_import"), "importer"),
}


class RefusedError(pg.InsufficientPrivilege):
    """A driver's InsufficientPrivilege, with the user and the statement, which PostgreSQL's message leaves out."""

    def __init__(self, exc: pg.InsufficientPrivilege, conn: psycopg.BaseConnection[Any], statement: bytes) -> None:
        super().__init__(*exc.args, info=exc.pgresult, encoding=conn.info.encoding)
        # As PostgreSQL reports it; a pooler may not repeat it.
        user = conn.pgconn.parameter_status(b"session_authorization")
        self.user = user.decode() if user else conn.info.user
        self.database = conn.info.dbname
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
            f"the connection to PostgreSQL was lost: {_brief(message)}. A pool, or from_conn_string(), opens a new one "
            "by itself; a saver on a single connection needs a new connection from you"
        )
    if isinstance(exc, pg.QueryCanceled):
        return StatementCanceledError(f"{StatementCanceledError()} ({primary})")
    if isinstance(exc, (pg.NumericValueOutOfRange, pg.SequenceGeneratorLimitExceeded)):
        return StorageError(
            f"PostgreSQL met a number at its limit: {_brief(message)}. Appends alone do not come that far: unless an "
            "argument of the call has it, a row of the log was altered, and verify() names it. Nothing was written"
        )
    if isinstance(exc, pg.CheckViolation) and exc.diag.constraint_name is None:
        return StorageError(
            f"the log has no partition for the event's time, and none was made ({_brief(message)}): if that is "
            "not about now, the thread's row in `streams` was altered, and verify() names it. Nothing was written"
        )
    if exc.sqlstate is not None and exc.sqlstate.startswith(_INSUFFICIENT):
        return ServerFullError(f"{ServerFullError()} ({primary})")
    return StorageError(f"PostgreSQL refused the operation: {message}")


def _brief(message: str) -> str:
    """A server's message without the functions in its context."""
    return message.split("\nCONTEXT:")[0].replace("\n", "; ")


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
    # The statement needs the schema or table for the functions that it calls.
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
    """The domain error for a server that accepts no writes."""
    advice = (
        "it is a standby. Connect to the primary: a connection string with several hosts and "
        "target_session_attrs=read-write finds it"
        if is_standby
        else "default_transaction_read_only is set on the database, the user or the connection"
    )
    return ReadOnlyServerError(f"{ReadOnlyServerError()} ({exc.diag.message_primary}): {advice}", is_standby=is_standby)


def is_lost(exc: psycopg.Error) -> bool:
    """Whether the connection is gone. An error without a SQLSTATE is the client's own: it could not send or receive.

    libpq reports an internal error if it gets more answers than it asked for: a pooler has added one before it closed
    the connection. Poolers also send errors of class 08: the pooler lost the server's connection, or cannot open one
    (PgBouncer sends 08P01).
    """
    if exc.sqlstate is not None and exc.sqlstate.startswith("08"):
        return True
    if isinstance(exc, (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.IdleSessionTimeout)):
        return True
    if exc.sqlstate in _ENDED_BY_TIMEOUT:
        return True
    return isinstance(exc, (psycopg.OperationalError, psycopg.InternalError)) and exc.sqlstate is None
