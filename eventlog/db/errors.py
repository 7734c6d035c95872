"""What the database driver's errors mean: the one place where psycopg's become `EventLogError`s."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql

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

__all__ = ["RefusedError", "is_lost", "is_to_grant", "read_only", "translate"]

#: PostgreSQL's class "insufficient resources": disk full, out of memory, too many connections or locks.
_INSUFFICIENT = "53"

#: What PostgreSQL says of an object that a user may not use, where its messages are in English.
_DENIED = re.compile(r"permission denied for (schema|table|view|sequence|function) (.+)", re.DOTALL)

#: The schema in a statement of ours: the first name that is quoted and qualifies another.
_SCHEMA = re.compile(r'("(?:[^"]|"")+")\.')

_AS_OWNER = "Let the object's owner grant it, or run this as the owner"

#: What a statement does that takes more than the right to select.
_CHANGES = {"insert": r"insert\s+into", "update": r"update", "delete": r"delete\s+from"}
_LOCKS = re.compile(r"\bdo\s+update\b|\bfor\s+(no\s+key\s+)?update\b|\bfor\s+(key\s+)?share\b", re.IGNORECASE)


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


def is_to_grant(exc: pg.InsufficientPrivilege) -> bool:
    """Whether a right to read a table or to call a function is missing; else only the owner may do this."""
    denied = _DENIED.fullmatch(exc.diag.message_primary or "")
    if denied is None or not isinstance(exc, RefusedError):
        return False
    kind, name = denied.groups()
    return kind == "function" or (kind == "table" and _table_rights(exc, name) == ["select"])


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
    quoted = sql.Identifier(name).as_string(None)
    if kind == "schema":
        right = f"usage on schema {quoted}"
    elif kind == "function":
        # Each of the log's functions has a name of its own: PostgreSQL asks for the arguments only where two share it.
        right = f"execute on function {schema[1]}.{quoted}"
    elif kind == "sequence":
        right = f"usage on sequence {schema[1]}.{quoted}"
    elif rights := _table_rights(exc, name):
        right = f"{', '.join(rights)} on {schema[1]}.{quoted}"
    else:
        return f"{refused}. {_AS_OWNER}"
    return f"{refused}. Let its owner run: grant {right} to {sql.Identifier(exc.user).as_string(None)}"


def _table_rights(exc: RefusedError, table: str) -> list[str]:
    """The rights that the refused statement needs on a table: of a function's statement, which PostgreSQL quotes.

    None for one that locks a table, as only what the owner does begins with.
    """
    said = exc.diag.context or ""
    text = said if re.search(rf"\b{re.escape(table)}\b", said) else exc.statement
    if re.search(r"\block\s+table\b", text, re.IGNORECASE):
        return []
    rights = ["select"]
    for right, verb in _CHANGES.items():
        named = rf'\b{verb}\s+(only\s+)?((\w+|"(?:[^"]|"")+")\.)?"?{re.escape(table)}\b'
        if re.search(named, text, re.IGNORECASE) or (right == "update" and _LOCKS.search(text)):
            rights.append(right)
    return rights


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
